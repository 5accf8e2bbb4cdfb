//! Results against the `f64` reference, and against themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};

use diff_flash_attn::tuning::{HopperShipped, MaskKind, Schedule, hopper_shipped};
use diff_flash_attn::{
    Client, DType, Error, Inputs, Mask, Norm, Options, Problem, Tensor, Tuning, forward_schedule,
};
use indicatif::ProgressBar;

use crate::clock::Budget;
use crate::common::cases::Case;
use crate::common::device::{Layout, checks, run as compute};
use crate::common::selection::selection;
use crate::common::tolerance::Check;

/// What one comparison found: its name, and each tensor's check or why there is none.
type Found = (String, Result<Vec<Check>, String>);

/// Checks everything; how much was wrong.
pub(crate) fn run(client: &Client, repeats: usize, budget: &Budget) -> usize {
    // What panics is reported as a line, and once.
    std::panic::set_hook(Box::new(|_| ()));
    let portable = compare_all("every kernel", selection().len(), budget, |i| {
        let launch = &selection()[i];
        (
            launch.choices().join(", "),
            caught(|| launch.compare(client, i as u64).1),
        )
    });
    portable + hopper(client, budget) + repeated(client, repeats, budget)
}

/// Every row of the table for compute capability 9.0; how many are wrong.
fn hopper(client: &Client, budget: &Budget) -> usize {
    let what = "compute capability 9.0";
    if let Err(reason) = takes_hopper(client) {
        println!("{what}: SKIPPED: {reason}");
        return 0;
    }
    let rows: Vec<_> = hopper_shipped().collect();
    compare_all(what, 2 * rows.len(), budget, |i| {
        let dtype = [DType::BF16, DType::F16][i % 2];
        let (case, layout) = hopper_case(&rows[i / 2], i, dtype);
        let name = format!("{:?}", case.problem);
        (
            name,
            caught(|| checks(&case, &compute(client, &case, layout, HOPPER))),
        )
    })
}

/// Whether the device takes the kernel at all, asked without a launch: a launch that fails is a fault, no reason to skip.
fn takes_hopper(client: &Client) -> Result<(), Error> {
    DType::BF16.check(client)?;
    let tensor = Tensor::empty(client, DType::BF16, &[1, 64, 1, 64]);
    let inputs = Inputs::standard(tensor.clone(), tensor.clone(), tensor);
    let options = Options {
        tuning: HOPPER,
        ..Options::default()
    };
    forward_schedule(client, &inputs, &options).map(|_| ())
}

/// The kernel by name: a problem that it does not take is an error.
const HOPPER: Tuning = Tuning {
    schedule: Some(Schedule::Hopper),
    forward: None,
    hopper_forward: None,
    query_gradient: None,
    key_value_gradient: None,
};

/// Compares `count` results; how many are wrong or could not be computed.
fn compare_all(what: &str, count: usize, budget: &Budget, found: impl Fn(usize) -> Found) -> usize {
    let progress = ProgressBar::new(count as u64);
    let (mut compared, mut wrong) = (0, vec![]);
    for i in (0..count).take_while(|_| !budget.is_spent()) {
        let (name, found) = found(i);
        match found {
            Ok(checks) => {
                let bad = checks.iter().filter(|check| !check.passes());
                wrong.extend(bad.map(|check| format!("{name} {check}")));
            }
            Err(reason) => wrong.push(format!("{name}: {reason}")),
        }
        compared += 1;
        progress.inc(1);
    }
    progress.finish_and_clear();
    if compared < count {
        println!("{what}: SKIPPED from number {compared} on: no time left");
    }
    wrong.iter().for_each(|line| println!("  {line}"));
    println!("{what}: {compared} compared, {} wrong", wrong.len());
    wrong.len()
}

/// What a computation gives, or its panic's message.
fn caught<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("panicked")
            .lines()
            .next()
            .unwrap_or_default()
            .to_string()
    })
}

/// A problem of several tiles for a row of the table, with tails; everything else varies with `i`.
fn hopper_case(row: &HopperShipped, i: usize, dtype: DType) -> (Case, Layout) {
    let [query_len, key_len] = [[190, 333], [257, 257], [130, 700], [401, 190]][i % 4];
    let mask = match row.mask {
        MaskKind::Full => Mask::None,
        MaskKind::Causal => Mask::Causal,
        MaskKind::Window => Mask::Window {
            left: Some(150),
            right: Some(i % 3 * 20),
        },
    };
    let heads = 4;
    let problem = Problem {
        batch: 2,
        query_len,
        key_len,
        heads,
        kv_heads: [4, 2, 1][i / 2 % 3],
        head_dim: row.head_dim,
        value_dim: row.value_dim,
        maps: row.maps,
        shared_key: row.maps == 2 && i.is_multiple_of(5),
        mask,
        scale: 1.0 / (row.head_dim as f32).sqrt(),
        dtype,
        norm: (!i.is_multiple_of(3)).then_some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }),
    };
    let lambda = [vec![1], vec![heads], vec![2, query_len, heads]];
    let gamma = problem.norm.is_some() && i.is_multiple_of(2);
    let layout = [Layout::Interleaved, Layout::HeadsFirst][i / 3 % 2];
    let case = Case::random(problem, &lambda[i / 2 % 3], gamma, i as u64);
    (case, layout)
}

/// Computes two problems again and again: the bits must not move. How many did.
fn repeated(client: &Client, repeats: usize, budget: &Budget) -> usize {
    let problem = Problem {
        batch: 1,
        query_len: 777,
        key_len: 777,
        heads: 4,
        kv_heads: 2,
        head_dim: 128,
        value_dim: 256,
        maps: 2,
        shared_key: false,
        mask: Mask::Causal,
        scale: 0.09,
        dtype: DType::BF16,
        norm: Some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }),
    };
    let small = Problem {
        head_dim: 64,
        value_dim: 128,
        dtype: DType::F32,
        ..problem
    };
    [problem, small]
        .iter()
        .filter(|problem| problem.dtype.check(client).is_ok())
        .map(|problem| moved(client, problem, repeats, budget))
        .sum()
}

fn moved(client: &Client, problem: &Problem, repeats: usize, budget: &Budget) -> usize {
    let case = Case::random(*problem, &[1, problem.query_len, problem.heads], true, 3);
    let results = || compute(client, &case, Layout::Interleaved, Tuning::default());
    let name = format!(
        "d {} dv {} {}, {repeats} times",
        problem.head_dim, problem.value_dim, problem.dtype
    );
    let first = match caught(results) {
        Ok(first) => first,
        Err(reason) => {
            println!("{name}: {reason}");
            return 1;
        }
    };
    let mut done = 0;
    let mut moved = 0;
    while done < repeats && !budget.is_spent() {
        moved += usize::from(caught(results).as_ref() != Ok(&first));
        done += 1;
    }
    println!("{name}: {done} compared, {moved} with other bits");
    moved
}
