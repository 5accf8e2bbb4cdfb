//! The portable kernels as CUDA code, forward and backward, in the simulator against the reference.

use checks::cases::Case;
use checks::device::{Layout, checks, run};
use checks::tolerance::assert_all;
use cuda_device::Arch;
use diff_flash_attn::lambda::{
    LambdaTensors, LambdaVectors, lambda, lambda_gradient, lambda_gradient_on_device,
    lambda_on_device,
};
use diff_flash_attn::tuning::Family;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tensor, Tuning};

use crate::device;

const PORTABLE: Tuning = Tuning::of(Family::Portable);

const WINDOW: Mask = Mask::Window {
    left: Some(20),
    right: Some(3),
};

fn problem([head_dim, value_dim]: [usize; 2], dtype: DType, mask: Mask) -> Problem {
    Problem::differential([1, 37, 50], [2, 1], [head_dim, value_dim])
        .with_mask(mask)
        .with_dtype(dtype)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: 0.4,
        }))
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
    let problem = problem([64, 128], DType::BF16, WINDOW).with_lengths([60, 33]);
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
    let problem = problem([16, 32], DType::F32, Mask::Causal)
        .with_maps(1)
        .with_norm(None);
    verify(Arch::Sm80, problem, Layout::HeadsFirst);
}

#[test]
fn shared_key() {
    let problem = problem([16, 32], DType::F32, WINDOW).with_shared_key(true);
    verify(Arch::Sm90a, problem, Layout::Interleaved);
}

#[test]
fn heads_of_the_paper() {
    let problem = problem([128, 256], DType::BF16, Mask::Causal).with_lengths([19, 35]);
    verify(Arch::Sm90a, problem, Layout::Interleaved);
}

#[test]
fn lambda_from_its_vectors() {
    let Some(device) = device::device(Arch::Sm80) else {
        return;
    };
    let client = device.client();
    let values: Vec<Vec<f32>> = (0..4)
        .map(|i| {
            (0..40)
                .map(|c| ((7 * i + 3 * c) % 11) as f32 / 32.0 - 0.1)
                .collect()
        })
        .collect();
    let upload = |values: &[f32]| Tensor::from_f32(client, DType::F32, &[values.len()], values);
    let [q1, k1, q2, k2] = [0, 1, 2, 3].map(|i| upload(&values[i]).unwrap());
    let vectors = LambdaTensors { q1, k1, q2, k2 };
    let host = LambdaVectors {
        q1: &values[0],
        k1: &values[1],
        q2: &values[2],
        k2: &values[3],
    };
    let close = |ours: &[f32], expected: &[f32]| {
        assert_eq!(ours.len(), expected.len());
        let error = |(x, y): (&f32, &f32)| (x - y).abs() / y.abs().max(1.0);
        let largest = ours.iter().zip(expected).map(error).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{ours:?}, expected {expected:?}");
    };
    let ours = lambda_on_device(client, &vectors, 0.2).unwrap();
    close(
        &ours.to_f32(client).unwrap(),
        &[lambda(&host, 0.2).unwrap()],
    );
    let grad = upload(&[0.75]).unwrap();
    let ours = lambda_gradient_on_device(client, &vectors, &grad).unwrap();
    let expected = lambda_gradient(&host, 0.75).unwrap();
    for (ours, expected) in [
        (&ours.q1, &expected.q1),
        (&ours.k1, &expected.k1),
        (&ours.q2, &expected.q2),
        (&ours.k2, &expected.k2),
    ] {
        close(&ours.to_f32(client).unwrap(), expected);
    }
}
