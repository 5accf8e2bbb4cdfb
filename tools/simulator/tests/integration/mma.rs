//! The kernels for `mma.sync`, as the library launches them, in the simulator against the reference, forward and backward.

use cuda_device::Arch;
use checks::cases::Case;
use checks::device::{Layout, checks, forward_checks, run, run_forward};
use checks::tolerance::assert_all;
use diff_flash_attn::tuning::{Family, MmaSettings, Pass};
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

use crate::device;

/// Asks for the kernels by name: a problem that they do not take is an error.
const MMA: Tuning = Tuning::of(Family::Mma);

const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.4,
};

const WINDOW: Mask = Mask::Window {
    left: Some(40),
    right: Some(9),
};

fn problem(lengths: [usize; 2], dims: [usize; 2]) -> Problem {
    Problem::differential([1, lengths[0], lengths[1]], [1, 1], dims)
        .with_mask(Mask::Causal)
        .with_dtype(DType::BF16)
        .with_norm(Some(NORM))
}

/// Forward and backward.
fn verify(arch: Arch, problem: Problem, layout: Layout, tuning: Tuning) {
    let Some(device) = device::device(arch) else {
        return;
    };
    let lambda = [problem.batch, problem.query_len, problem.heads];
    let case = Case::random(problem, &lambda, problem.norm.is_some(), 4);
    let start = std::time::Instant::now();
    let ours = run(device.client(), &case, layout, tuning);
    let name = format!("{arch} {layout:?} {problem:?} ({:.1?})", start.elapsed());
    assert_all(&name, &checks(&case, &ours));
}

/// Forward alone.
fn verify_forward(arch: Arch, problem: Problem, layout: Layout, tuning: Tuning) {
    let Some(device) = device::device(arch) else {
        return;
    };
    let lambda = [problem.batch, problem.query_len, problem.heads];
    let case = Case::random(problem, &lambda, problem.norm.is_some(), 4);
    let start = std::time::Instant::now();
    let ours = run_forward(device.client(), &case, layout, tuning);
    let name = format!("{arch} {layout:?} {problem:?} ({:.1?})", start.elapsed());
    assert_all(&name, &forward_checks(&case, &ours));
}

#[test]
fn d64_dv128() {
    let problem = problem([100, 150], [64, 128]);
    verify_forward(Arch::Sm80, problem, Layout::Interleaved, MMA);
}

#[test]
fn d64_dv128_backward() {
    let problem = problem([100, 150], [64, 128]);
    verify(Arch::Sm80, problem, Layout::Interleaved, MMA);
}

#[test]
fn d128_dv256() {
    let problem = problem([70, 90], [128, 256]).with_dtype(DType::F16);
    verify(Arch::Sm80, problem, Layout::HalfSplit, MMA);
}
