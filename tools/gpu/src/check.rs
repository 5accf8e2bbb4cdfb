//! Results against the `f64` reference, and against themselves.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use checks::cases::Case;
use checks::catalogue::{Entry, entries};
use checks::device::{Layout, forward_checks, run as compute, run_forward};
use checks::selection::selection;
use checks::tolerance::Check;
use diff_flash_attn::tuning::{Family, shipped};
use diff_flash_attn::{Client, DType, Mask, Norm, Problem, Tuning, plan_forward};
use indicatif::ProgressBar;

use crate::choice::Choice;
use crate::clock::Budget;
use crate::shapes::name;

/// What was computed and compared, or why it was not.
type Found = Result<Vec<Check>, String>;

/// Comparisons.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) compared: usize,
    /// Results that were wrong, or that there was none of.
    pub(crate) wrong: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.compared += other.compared;
        self.wrong += other.wrong;
    }
}

/// Checks everything that is chosen.
pub(crate) fn run(client: &Client, choice: &Choice, repeats: usize, budget: &Budget) -> Count {
    // What panics is reported as a line, and once.
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let mut count = every_kernel(client, choice, budget);
    for family in families() {
        count += rows(client, family, choice, budget);
    }
    count += repeated(client, choice, repeats, budget);
    set_hook(hook);
    count
}

/// The kernels that the library takes by itself, each for some problems of every kind.
fn every_kernel(client: &Client, choice: &Choice, budget: &Budget) -> Count {
    let launches = selection();
    let names = launches.iter().map(|launch| launch.choices().join(", "));
    compare_all("every kernel", names, choice, budget, |i| {
        caught(|| launches[i].compare(client, i as u64).1)
    })
}

/// The families beside the portable one.
fn families() -> Vec<Family> {
    let mut families = vec![];
    for family in shipped().map(|row| row.settings.family()) {
        if family != Family::Portable && !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// Every row of a family's table, in both types, with all that it saves for backward.
fn rows(client: &Client, family: Family, choice: &Choice, budget: &Budget) -> Count {
    let what = format!("rows of {family}");
    let entries = entries(family);
    if let Some(Err(reason)) = entries.first().map(|entry| takes(client, entry)) {
        println!("{what}: SKIPPED: {reason}");
        return Count::default();
    }
    let cases: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(i, entry)| case(entry, i, choice))
        .collect();
    let names = cases.iter().map(|(case, _)| name(&case.problem));
    let tuning = Tuning::of(family);
    compare_all(&what, names, choice, budget, |i| {
        let (case, layout) = &cases[i];
        caught(|| forward_checks(case, &run_forward(client, case, *layout, tuning)))
    })
}

/// Whether the device takes the family at all, asked without a launch: a launch that fails is a fault, no reason to skip.
fn takes(client: &Client, entry: &Entry) -> Result<(), String> {
    let dtype = entry.problem.dtype;
    let plan = || plan_forward(client, &entry.inputs(client), &entry.options());
    let planned = dtype.check(client).and_then(|()| plan());
    planned.map(drop).map_err(|reason| reason.to_string())
}

/// Compares those results that are chosen by name.
fn compare_all(
    what: &str,
    names: impl Iterator<Item = String>,
    choice: &Choice,
    budget: &Budget,
    found: impl Fn(usize) -> Found,
) -> Count {
    let names: Vec<_> = names.enumerate().collect();
    let all = names.len();
    let chosen = names.into_iter().filter(|(_, name)| choice.takes(name));
    let chosen: Vec<_> = chosen.collect();
    let progress = ProgressBar::new(chosen.len() as u64);
    let (mut compared, mut wrong) = (0, vec![]);
    for (i, name) in chosen.iter().take_while(|_| !budget.is_spent()) {
        match found(*i) {
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
    if compared < chosen.len() {
        println!("{what}: SKIPPED from number {compared} on: no time left");
    }
    wrong.iter().for_each(|line| println!("  {line}"));
    let wrong = wrong.len();
    println!("{what}: {compared} of {all} compared, {wrong} wrong");
    Count { compared, wrong }
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

/// An entry's problem, of several tiles with tails; everything else varies with `i`.
fn case(entry: &Entry, i: usize, choice: &Choice) -> (Case, Layout) {
    let lengths = [[190, 333], [257, 257], [130, 700], [401, 190]][i % 4];
    let lengths = lengths.map(|len| choice.at_most(len));
    let mask = match entry.problem.mask {
        Mask::Window { .. } => Mask::Window {
            left: Some(150),
            right: Some(i % 3 * 20),
        },
        other => other,
    };
    let heads = 4;
    let maps = entry.problem.maps;
    let norm = (!i.is_multiple_of(3)).then_some(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    });
    let problem = entry
        .problem
        .with_batch(2)
        .with_lengths(lengths)
        .with_heads([heads, [4, 2, 1][i / 2 % 3]])
        .with_shared_key(maps == 2 && i.is_multiple_of(5))
        .with_mask(mask)
        .with_norm(norm);
    let lambda = [vec![1], vec![heads], vec![2, problem.query_len, heads]];
    let gamma = problem.norm.is_some() && i.is_multiple_of(2);
    let layout = [Layout::Interleaved, Layout::HeadsFirst][i / 3 % 2];
    let case = Case::random(problem, &lambda[i / 2 % 3], gamma, i as u64);
    (case, layout)
}

/// Computes two problems again and again: the bits must not move.
fn repeated(client: &Client, choice: &Choice, repeats: usize, budget: &Budget) -> Count {
    let problem = Problem::differential(
        [1, choice.at_most(777), choice.at_most(777)],
        [4, 2],
        [128, 256],
    )
    .with_mask(Mask::Causal)
    .with_scale(0.09)
    .with_dtype(DType::BF16)
    .with_norm(Some(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    }));
    let small = problem.with_dims([64, 128]).with_dtype(DType::F32);
    let mut count = Count::default();
    for problem in [problem, small] {
        if problem.dtype.check(client).is_ok() && choice.takes(&name(&problem)) {
            count += moved(client, &problem, repeats, budget);
        }
    }
    count
}

fn moved(client: &Client, problem: &Problem, repeats: usize, budget: &Budget) -> Count {
    let case = Case::random(*problem, &[1, problem.query_len, problem.heads], true, 3);
    let results = || compute(client, &case, Layout::Interleaved, Tuning::default());
    let name = format!("{}, {repeats} times", name(problem));
    let mut count = Count::default();
    let first = match caught(results) {
        Ok(first) => first,
        Err(reason) => {
            println!("{name}: {reason}");
            count.wrong += 1;
            return count;
        }
    };
    while count.compared < repeats && !budget.is_spent() {
        count.wrong += usize::from(caught(results).as_ref() != Ok(&first));
        count.compared += 1;
    }
    let Count { compared, wrong } = count;
    println!("{name}: {compared} compared, {wrong} with other bits");
    count
}
