//! The forward kernel for compute capability 9.0, as the library launches it, in the simulator against the reference.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::path::PathBuf;

use audit::{Arch, Nvrtc};
use common::cases::Case;
use common::device::{Layout, forward_checks, run_forward};
use common::tolerance::assert_all;
use diff_flash_attn::tuning::Schedule;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};
use simulator::{Run, Simulator};

/// A simulated device, or a printed line about the absence of NVRTC.
fn device() -> Option<Simulator> {
    let wheels = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/cuda-wheels");
    let root = std::env::var_os("CUDA_PATH").map_or(PathBuf::from(wheels), PathBuf::from);
    match Nvrtc::open(&root) {
        Ok(nvrtc) => Some(Simulator::new(Arch::Sm90a, nvrtc, &Run::USUAL).unwrap()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing simulated: {error:#}");
            None
        }
    }
}

/// Asks for the kernel by name: a problem that it does not take is an error.
const HOPPER: Tuning = Tuning {
    schedule: Some(Schedule::Hopper),
    forward: None,
    hopper_forward: None,
    query_gradient: None,
    key_value_gradient: None,
};

const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.4,
};

/// Two heads on one key head.
fn problem([head_dim, value_dim]: [usize; 2], [query_len, key_len]: [usize; 2]) -> Problem {
    Problem {
        batch: 1,
        query_len,
        key_len,
        heads: 2,
        kv_heads: 1,
        head_dim,
        value_dim,
        maps: 2,
        shared_key: false,
        mask: Mask::None,
        scale: 1.0 / (head_dim as f32).sqrt(),
        dtype: DType::BF16,
        norm: None,
    }
}

fn verify(problem: Problem, layout: Layout) {
    let Some(device) = device() else { return };
    let Problem {
        batch,
        query_len,
        heads,
        head_dim,
        value_dim,
        mask,
        maps,
        key_len,
        dtype,
        ..
    } = problem;
    let case = Case::random(
        problem,
        &[batch, query_len, heads],
        problem.norm.is_some(),
        7,
    );
    let start = std::time::Instant::now();
    let ours = run_forward(device.client(), &case, layout, HOPPER);
    let name = format!(
        "d{head_dim} dv{value_dim} {query_len}×{key_len} {mask:?} {maps} maps {dtype} {layout:?} ({:?})",
        start.elapsed()
    );
    assert_all(&name, &forward_checks(&case, &ours));
}

#[test]
fn d64_dv128() {
    verify(problem([64, 128], [100, 300]), Layout::Interleaved);
}

#[test]
fn d128_dv256() {
    let problem = Problem {
        mask: Mask::Causal,
        norm: Some(NORM),
        ..problem([128, 256], [100, 200])
    };
    verify(problem, Layout::HalfSplit);
}
