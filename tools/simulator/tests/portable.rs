//! The portable kernels as CUDA code, forward and backward, in the simulator against the reference.

#[path = "../../../tests/common/mod.rs"]
mod common;
mod device;

use audit::Arch;
use common::cases::Case;
use common::device::{Layout, checks, run};
use common::tolerance::assert_all;
use diff_flash_attn::tuning::Schedule;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

const PORTABLE: Tuning = Tuning {
    schedule: Some(Schedule::Portable),
    forward: None,
    hopper_forward: None,
    query_gradient: None,
    key_value_gradient: None,
};

const WINDOW: Mask = Mask::Window {
    left: Some(20),
    right: Some(3),
};

fn problem([head_dim, value_dim]: [usize; 2], dtype: DType, mask: Mask) -> Problem {
    Problem {
        batch: 1,
        query_len: 37,
        key_len: 50,
        heads: 2,
        kv_heads: 1,
        head_dim,
        value_dim,
        maps: 2,
        shared_key: false,
        mask,
        scale: 1.0 / (head_dim as f32).sqrt(),
        dtype,
        norm: Some(Norm {
            eps: 1e-5,
            lambda_init: 0.4,
        }),
    }
}

fn verify(arch: Arch, problem: Problem, layout: Layout) {
    let Some(device) = device::device(arch) else {
        return;
    };
    let lambda = [problem.batch, problem.query_len, problem.heads];
    let case = Case::random(problem, &lambda, problem.norm.is_some(), 4);
    let ours = run(device.client(), &case, layout, PORTABLE);
    assert_all(&format!("{arch} {layout:?}"), &checks(&case, &ours));
}

#[test]
fn f32_on_ampere() {
    let problem = problem([32, 64], DType::F32, Mask::Causal);
    verify(Arch::Sm80, problem, Layout::HalfSplit);
}

#[test]
fn bf16_on_ampere() {
    let problem = Problem {
        query_len: 60,
        key_len: 33,
        ..problem([64, 128], DType::BF16, WINDOW)
    };
    verify(Arch::Sm80, problem, Layout::Interleaved);
}

#[test]
fn unaligned_f16_on_hopper() {
    verify(
        Arch::Sm90a,
        problem([40, 24], DType::F16, Mask::None),
        Layout::Unaligned,
    );
}

#[test]
fn standard_attention() {
    let problem = Problem {
        maps: 1,
        norm: None,
        ..problem([16, 32], DType::F32, Mask::Causal)
    };
    verify(Arch::Sm80, problem, Layout::HeadsFirst);
}

#[test]
fn shared_key() {
    let problem = Problem {
        shared_key: true,
        ..problem([16, 32], DType::F32, WINDOW)
    };
    verify(Arch::Sm90a, problem, Layout::Interleaved);
}

#[test]
fn heads_of_the_paper() {
    let problem = Problem {
        query_len: 19,
        key_len: 35,
        ..problem([128, 256], DType::BF16, Mask::Causal)
    };
    verify(Arch::Sm90a, problem, Layout::Interleaved);
}
