//! A training step's memory: linear in the sequence length, where the composed form's is quadratic.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::MemoryScope;
use diff_flash_attn::burn::{AttentionOps, DiffTransformerConfig, Maybe, composed, diff_attention};
use diff_flash_attn::{Mask, Options};

use crate::cases::{Source, cube};

fn options() -> Options {
    Options::default().with_mask(Mask::Causal)
}

/// A step of attention alone.
fn attention_step(len: usize, fused: bool) {
    let mut source = Source::new(DType::F32, &cube().autodiff());
    let query = source.tensor([1, 1, 2, len, 16]);
    let key = source.tensor([1, 1, 2, len, 16]);
    let (value, lambda) = (source.tensor([1, 1, len, 32]), source.tensor([1]));
    let function = if fused {
        diff_attention::<5, 4, 1>
    } else {
        composed::diff_attention::<5, 4, 1>
    };
    let output = function(query.clone(), key, value, lambda, None, &options());
    let gradients = output.sum().backward();
    query.grad(&gradients).unwrap().into_data();
}

/// A step of a decoder.
fn decoder_step(len: usize) {
    let device = cube().autodiff();
    let model = DiffTransformerConfig::new(16, 32, 1, 1).init(&device);
    let tokens = Tensor::<1, Int>::arange(0..len as i64, &device).remainder_scalar(16);
    let loss = model.forward(tokens.reshape([1, len])).square().mean();
    let gradients = loss.backward();
    let first = model.embed_tokens.weight.val().grad(&gradients);
    first.unwrap().into_data();
}

/// A step; then the bytes that the device's allocator has reserved, which are the peak of all that came before.
fn step(len: usize, form: &str) -> u64 {
    match form {
        "decoder" => decoder_step(len),
        form => attention_step(len, form == "fused"),
    }
    let client = CubeDevice::Wgpu(Default::default()).client();
    let report = client.memory_report(MemoryScope::Device);
    report.usage().bytes_reserved
}

const STEP: &str = "DIFF_FLASH_ATTN_TEST_STEP";

/// The peak of a step in a process of its own.
fn peak(len: usize, form: &str) -> u64 {
    let program = std::env::current_exe().unwrap();
    let child = std::process::Command::new(program)
        .args(["--exact", "memory::one_step", "--ignored", "--nocapture"])
        .env(STEP, format!("{form} {len}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("reserved "));
    found.expect(&text).parse().unwrap()
}

#[test]
#[ignore = "what the test below runs alone in a process"]
fn one_step() {
    let wanted = std::env::var(STEP).unwrap();
    let (form, len) = wanted.split_once(' ').unwrap();
    println!("\nreserved {}", step(len.parse().unwrap(), form));
}

#[test]
fn a_step_takes_memory_linear_in_the_sequence_length() {
    let one_map = 8192 * 8192 * 4;
    for form in ["fused", "decoder"] {
        let (short, long) = (peak(4096, form), peak(8192, form));
        println!("{form}: {short} B at 4096, {long} B at 8192, a map of scores {one_map} B");
        assert!(long < one_map / 4, "{long} B");
        assert!(short > 0 && long < 2 * short + short / 4);
    }
    let (short, long) = (peak(1024, "composed"), peak(2048, "composed"));
    println!("composed: {short} B at 1024, {long} B at 2048");
    assert!(long > 3 * short, "{short} B, then {long} B");
}

/// Bytes in use that a forward pass adds, with permuted views as inputs, tracked or not.
fn kept(tracked: bool) -> u64 {
    type B = Autodiff<CubeBackend>;
    let device = CubeDevice::Wgpu(Default::default());
    let tensor = |shape: &[usize], axes: &[usize]| -> FloatTensor<B> {
        let zeros = B::float_zeros(Shape::from(shape.to_vec()), &device, DType::F32.into());
        B::float_permute(zeros, axes)
    };
    let query = tensor(&[1, 512, 2, 2, 16], &[0, 2, 3, 1, 4]);
    let query = if tracked {
        B::from_inner(query.into_primitive()).require_grad()
    } else {
        query
    };
    let key = tensor(&[1, 512, 2, 2, 16], &[0, 2, 3, 1, 4]);
    let value = tensor(&[1, 512, 2, 32], &[0, 2, 1, 3]);
    let lambda = Maybe::Given(tensor(&[1, 1, 1], &[0, 1, 2]));
    let in_use = || {
        device
            .client()
            .memory_report(MemoryScope::CurrentStream)
            .usage()
            .bytes_in_use
    };
    let inputs = (query.clone(), key.clone(), value.clone(), lambda.clone());
    B::sync(&device).unwrap();
    let before = in_use();
    let output = B::flash_attention(query, key, value, lambda, Maybe::Absent, options());
    B::sync(&device).unwrap();
    let after = in_use();
    drop((inputs, output));
    after - before
}

/// No copy of an input, and nothing for a backward pass that cannot come.
#[test]
fn what_is_kept_of_a_forward_pass() {
    let output = 512 * 2 * 32 * 4;
    let lse = 2 * 2 * 512 * 4;
    for (tracked, expected) in [(false, output), (true, output + 2 * output + lse)] {
        let kept = kept(tracked);
        println!("tracked: {tracked}, kept {kept} B, of which tensors {expected} B");
        // What is not a tensor: placeholders, sizes and strides.
        assert!((expected..expected + 1024).contains(&kept), "{kept} B");
    }
}
