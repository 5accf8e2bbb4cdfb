//! The kernels for `mma.sync` with one fault at a time: no broken copy may pass for the kernel.

use checks::cases::Case;
use checks::device::{Layout, checks, inputs, options, run};
use cuda_device::Arch;
use diff_flash_attn::tuning::{Family, MmaSettings, Pass};
use diff_flash_attn::{DType, Error, Mask, Problem, Tensor, Tuning, backward, forward};
use simulator::Simulator;

use crate::device;

const FORWARD: &str = "attention_forward_mma";
const QUERY: &str = "attention_backward_query_mma";
const KEY_VALUE: &str = "attention_backward_key_value_mma";

const WAIT: &str = "cp.async.wait_group";
const COMMIT: &str = "cp.async.commit_group";
const BARRIER: &str = "bar.sync";

/// Several small tiles, two warps for each 16 rows.
const SETTINGS: MmaSettings = MmaSettings::new([16, 4, 1], true);

fn tuning() -> Tuning {
    Tuning::of(Family::Mma)
        .with(Pass::Forward, SETTINGS)
        .with(Pass::QueryGradient, SETTINGS)
        .with(Pass::KeyValueGradient, SETTINGS)
}

fn case() -> Case {
    let problem = Problem::differential([1, 40, 70], [1, 1], [16, 32]).with_dtype(DType::BF16);
    Case::random(problem, &[1], false, 7)
}

/// Output and gradients, or what the simulator reports.
fn results(device: &Simulator) -> Result<Vec<f32>, Error> {
    let (client, case) = (device.client(), case());
    let (inputs, options) = (
        inputs(client, &case, Layout::Interleaved),
        options(&case, tuning()),
    );
    let result = forward(client, &inputs, &options)?;
    let mut all = result.output.to_f32(client)?;
    let saved = result.saved.expect("asked for");
    let shape = case.output_shape();
    let gradient = Tensor::from_f32(client, case.problem.dtype, &shape, &case.grad_output)?;
    let gradients = backward(client, &inputs, &saved, &gradient, &options)?;
    for tensor in [gradients.query, gradients.key, gradients.value] {
        all.extend(tensor.to_f32(client)?);
    }
    Ok(all)
}

/// Removes each line with `pattern` of a kernel in turn, but for the last `kept`: each must be reported with one of `words`.
fn each_is_missed(kernel: &'static str, pattern: &'static str, kept: usize, words: &[&str]) {
    let mut number = 0;
    while let Some(lines) = misses(kernel, pattern, number, words) {
        number += 1;
        if number + kept >= lines {
            break;
        }
    }
}

/// How many such lines there are, after the one of this `number` was missed.
fn misses(
    kernel: &'static str,
    pattern: &'static str,
    number: usize,
    words: &[&str],
) -> Option<usize> {
    let (send, lines) = std::sync::mpsc::channel();
    let change = move |ptx: String| {
        if !ptx.contains(kernel) {
            return ptx;
        }
        let found = ptx.lines().filter(|line| line.contains(pattern)).count();
        assert!(found > number, "{found} lines have {pattern}");
        let _ = send.send(found);
        without(&ptx, pattern, number)
    };
    let nvrtc = device::nvrtc()?;
    let device = Simulator::with_changes(Arch::Sm80, nvrtc, change).unwrap();
    let fault = format!("{kernel} without {pattern} {number}");
    let report = match results(&device) {
        Ok(_) => panic!("{fault}: nothing reported"),
        Err(report) => report.to_string(),
    };
    println!("{fault}: {report}");
    let says = words.iter().any(|word| report.contains(word));
    assert!(says && report.contains("line "), "{fault}: {report}");
    lines.recv().ok()
}

/// The text without the line of this `number` that contains `pattern`.
fn without(ptx: &str, pattern: &str, number: usize) -> String {
    let mut seen = 0;
    let mut kept = Vec::new();
    for line in ptx.lines() {
        let hit = line.contains(pattern);
        if !hit || seen != number {
            kept.push(line);
        }
        seen += usize::from(hit);
    }
    kept.join("\n")
}

#[test]
fn unchanged_kernels_pass() {
    let Some(device) = device::device(Arch::Sm80) else {
        return;
    };
    assert!(results(&device).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn waits() {
    for kernel in [FORWARD, QUERY, KEY_VALUE] {
        each_is_missed(kernel, WAIT, 0, &["in flight", "race:", "uninitialised"]);
    }
}

#[test]
fn commits() {
    for kernel in [FORWARD, QUERY, KEY_VALUE] {
        each_is_missed(kernel, COMMIT, 0, &["in flight", "race:", "uninitialised"]);
    }
}

#[test]
fn barriers() {
    for kernel in [FORWARD, QUERY, KEY_VALUE] {
        each_is_missed(kernel, BARRIER, 0, &["in flight", "race:", "uninitialised"]);
    }
}

/// The same kernels, asked for one key more than the reference lets through.
#[test]
fn a_mask_that_is_one_key_off() {
    let Some(device) = device::device(Arch::Sm80) else {
        return;
    };
    let right = |keys| Mask::Window {
        left: None,
        right: Some(keys),
    };
    let mut case = case();
    case.problem = case.problem.with_mask(right(1));
    let ours = run(device.client(), &case, Layout::Interleaved, tuning());
    case.problem = case.problem.with_mask(right(0));
    let missed = checks(&case, &ours)
        .into_iter()
        .filter(|check| !check.passes());
    assert!(
        missed.count() >= 5,
        "the output, log-sum-exps and gradients of query, key and value"
    );
}
