//! A training step's memory: linear in the sequence length, where the composed form's is quadratic.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::MemoryScope;
use diff_flash_attn::burn::{AttentionOps, Maybe, composed, diff_attention};
use diff_flash_attn::{Mask, Options};

use crate::cases::{Source, cube};

fn options() -> Options {
    Options {
        mask: Mask::Causal,
        ..Options::default()
    }
}

/// Bytes that the device's allocator has reserved after a step, from nothing: the step's peak.
fn peak(len: usize, fused: bool) -> u64 {
    let device = cube();
    device.memory_cleanup();
    device.sync().unwrap();
    let before = reserved();
    {
        let mut source = Source::new(DType::F32, &device.clone().autodiff());
        let query = source.tensor([1, 1, 2, len, 16]);
        let key = source.tensor([1, 1, 2, len, 16]);
        let (value, lambda) = (source.tensor([1, 1, len, 32]), source.tensor([1]));
        let output = if fused {
            diff_attention(query.clone(), key, value, lambda, None, &options())
        } else {
            composed::diff_attention(query.clone(), key, value, lambda, None, &options())
        };
        let gradients = output.sum().backward();
        query.grad(&gradients).unwrap().into_data();
    }
    reserved() - before
}

fn reserved() -> u64 {
    let client = CubeDevice::Wgpu(Default::default()).client();
    client
        .memory_report(MemoryScope::Device)
        .usage()
        .bytes_reserved
}

/// Alone in its process: other tests' tensors would be counted.
#[test]
fn a_step_takes_memory_linear_in_the_sequence_length() {
    let program = std::env::current_exe().unwrap();
    let measure = std::process::Command::new(program)
        .args(["--exact", "memory::measure", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&measure.stdout);
    println!("{text}");
    assert!(measure.status.success());
}

#[test]
#[ignore = "measures the whole process: the test above runs it alone"]
fn measure() {
    let (short, long) = (peak(4096, true), peak(8192, true));
    println!("fused: {short} B at 4096, {long} B at 8192");
    let one_map = 8192 * 8192 * 4;
    assert!(
        short > 0 && long < one_map / 4,
        "{long} B, one map of scores has {one_map} B"
    );
    assert!(long < 3 * short, "{short} B, then {long} B");
    let (short, long) = (peak(512, false), peak(1024, false));
    println!("composed: {short} B at 512, {long} B at 1024");
    assert!(
        long > 1024 * 1024 * 4 * 2,
        "{long} B are not two maps of scores"
    );
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
    B::sync(&device).unwrap();
    let before = in_use();
    let output = B::flash_attention(query, key, value, lambda, Maybe::Absent, options());
    B::sync(&device).unwrap();
    let after = in_use();
    drop(output);
    after - before
}

/// No copy of an input, and nothing for a backward pass that cannot come.
#[test]
fn what_is_kept_of_a_forward_pass() {
    let output = 512 * 2 * 32 * 4;
    let lse = 2 * 2 * 512 * 4;
    assert_eq!(kept(false), output);
    assert_eq!(kept(true), output + 2 * output + lse);
}
