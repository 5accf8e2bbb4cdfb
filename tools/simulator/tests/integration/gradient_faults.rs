//! The kernels of the gradients for compute capability 9.0 with one fault at a time: no broken copy may pass for the kernel.

use std::collections::BTreeSet;

use checks::cases::Case;
use checks::device::{Layout, checks, inputs, options, run};
use cuda_device::Arch;
use diff_flash_attn::tuning::Family;
use diff_flash_attn::{DType, Error, Mask, Problem, Tensor, Tuning, backward, forward};
use simulator::Simulator;

use crate::device;
use crate::faults::{EXPECT, TRY_WAIT, WAIT_PRODUCTS, change_lines};

const KEYS: &str = "attention_backward_keys_hopper";
const QUERIES: &str = "attention_backward_queries_hopper";
const KERNELS: [&str; 2] = [KEYS, QUERIES];

const RELEASE: &str = "mbarrier.arrive.shared::cta.b64 _, [";
const COMMIT: &str = "wgmma.commit_group";

/// Waits of a computing warpgroup for what TMA brings, in the order of the code: what stays, the first tile, then in the loop
/// the tile's other half and the next tile. Those after them are the loading thread's.
const COMPUTING_WAITS: usize = 4;

/// Three tiles of queries and of keys, through rings of two.
fn case() -> Case {
    let problem = Problem::differential([1, 130, 170], [1, 1], [64, 64])
        .with_scale(0.125)
        .with_dtype(DType::BF16);
    Case::random(problem, &[1], false, 7)
}

const TUNING: Tuning = Tuning::of(Family::Hopper);

/// The gradients, or what the simulator reports.
fn gradients(device: &Simulator) -> Result<Vec<f32>, Error> {
    let (client, case) = (device.client(), case());
    let (inputs, options) = (
        inputs(client, &case, Layout::Interleaved),
        options(&case, TUNING),
    );
    let saved = forward(client, &inputs, &options)?
        .saved
        .expect("asked for");
    let shape = case.output_shape();
    let gradient = Tensor::from_f32(client, case.problem.dtype, &shape, &case.grad_output)?;
    let gradients = backward(client, &inputs, &saved, &gradient, &options)?;
    let mut all = Vec::new();
    for tensor in [gradients.query, gradients.key, gradients.value] {
        all.extend(tensor.to_f32(client)?);
    }
    Ok(all)
}

/// The fault in `kernel` must be reported with one of `words`, and the line of the PTX that shows it.
fn caught(
    kernel: &'static str,
    fault: &str,
    words: &[&str],
    change: impl Fn(&str) -> String + Send + 'static,
) {
    let Some(nvrtc) = device::nvrtc() else { return };
    let changed = move |ptx: String| {
        if !ptx.contains(kernel) {
            return ptx;
        }
        let changed = change(&ptx);
        assert_ne!(changed, ptx, "nothing was changed");
        changed
    };
    let device = Simulator::with_changes(Arch::Sm90a, nvrtc, changed).unwrap();
    let report = match gradients(&device) {
        Ok(_) => panic!("{kernel}, {fault}: nothing reported"),
        Err(report) => report.to_string(),
    };
    println!("{kernel}, {fault}: {report}");
    let says = words.iter().any(|word| report.contains(word));
    assert!(
        says && report.contains(kernel) && report.contains("line "),
        "{kernel}, {fault}: {report}"
    );
}

/// Drops the line number `number` with `pattern` of each kernel.
fn each_is_missed(pattern: &'static str, numbers: core::ops::Range<usize>, words: &[&str]) {
    for kernel in KERNELS {
        for number in numbers.clone() {
            let fault = format!("`{pattern}` {number} dropped");
            caught(kernel, &fault, words, move |ptx| {
                change_lines(ptx, pattern, |i| i == number, |_| String::new())
            });
        }
    }
}

#[test]
fn unchanged_kernels_pass() {
    let Some(device) = device::device(Arch::Sm90a) else {
        return;
    };
    assert!(gradients(&device).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn dropped_waits_for_tiles() {
    for kernel in KERNELS {
        for wait in 0..COMPUTING_WAITS {
            let fault = format!("wait {wait} dropped");
            caught(kernel, &fault, &["in flight", "race"], move |ptx| {
                let done = |_: &str| "setp.eq.u32 p, 0, 0;".into();
                change_lines(ptx, TRY_WAIT, |i| i == wait, done)
            });
        }
    }
}

#[test]
fn dropped_waits_for_room() {
    for kernel in KERNELS {
        let fault = "no wait for room";
        caught(kernel, fault, &["more than 1 arrivals", "race"], |ptx| {
            let done = |_: &str| "setp.eq.u32 p, 0, 0;".into();
            change_lines(ptx, TRY_WAIT, |i| i >= COMPUTING_WAITS, done)
        });
    }
}

#[test]
fn swapped_phases() {
    for kernel in KERNELS {
        for wait in 0..COMPUTING_WAITS {
            let fault = format!("phase of wait {wait} swapped");
            caught(
                kernel,
                &fault,
                &["deadlock", "race", "in flight"],
                move |ptx| change_lines(ptx, TRY_WAIT, |i| i == wait, swapped),
            );
        }
    }
}

/// A wait for the other phase.
fn swapped(line: &str) -> String {
    let (start, parity) = line.rsplit_once(", ").unwrap();
    let parity = parity.trim_end_matches(';');
    format!("{{\n.reg .b32 swapped;\nxor.b32 swapped, {parity}, 1;\n{start}, swapped;\n}}")
}

/// Of what stays, of a tile with its statistics, and of the tile's other half: each has its own count, wherever the compiler
/// copied the instruction to.
#[test]
fn shortened_byte_counts() {
    for kernel in KERNELS {
        for which in 0..3 {
            let fault = format!("byte count {which} shortened");
            caught(kernel, &fault, &["deadlock"], move |ptx| {
                let counts: BTreeSet<_> = ptx.lines().filter_map(byte_count).collect();
                assert_eq!(counts.len(), 3, "{counts:?}");
                let count = *counts.iter().nth(which).unwrap();
                let shortened = |line: &str| match byte_count(line) {
                    Some(bytes) if bytes == count => {
                        line.replace(&format!(", {bytes};"), &format!(", {};", bytes - 16))
                    }
                    _ => line.to_string(),
                };
                change_lines(ptx, EXPECT, |_| true, shortened)
            });
        }
    }
}

/// The bytes that a line of PTX tells a barrier to expect.
fn byte_count(line: &str) -> Option<usize> {
    let (_, bytes) = line.contains(EXPECT).then(|| line.rsplit_once(", "))??;
    bytes.trim_end_matches(';').parse().ok()
}

#[test]
fn kept_tiles() {
    each_is_missed(RELEASE, 0..2, &["deadlock"]);
}

/// Of the scores, of dP, of the sums.
#[test]
fn dropped_waits_for_products() {
    each_is_missed(WAIT_PRODUCTS, 0..3, &["not waited for"]);
}

/// Of the first scores, dP, and the sums.
#[test]
fn dropped_commits() {
    each_is_missed(COMMIT, 0..3, &["not waited for", "not committed"]);
}

/// The same kernels, asked for one key more than the reference lets through.
#[test]
fn a_mask_that_is_one_key_off() {
    let Some(device) = device::device(Arch::Sm90a) else {
        return;
    };
    let right = |keys| Mask::Window {
        left: None,
        right: Some(keys),
    };
    let mut case = case();
    case.problem = case.problem.with_mask(right(1));
    let ours = run(device.client(), &case, Layout::Interleaved, TUNING);
    case.problem = case.problem.with_mask(right(0));
    let missed = checks(&case, &ours)
        .into_iter()
        .filter(|check| !check.passes());
    assert!(
        missed.count() >= 5,
        "the output, log-sum-exps and gradients of query, key and value"
    );
}
