//! Burn on its CUDA device, with a simulator in place of a GPU, against the composed form in f64.

use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::backend::fusion::Fusion;
use burn::tensor::{DType, FloatDType};
use burn_cubecl::{CubeBackend, CubeDevice};
use diff_flash_attn::burn::{DiffTransformerConfig, MultiHeadDiffAttentionConfig};
use diff_flash_attn::device;
use simulator::with_driver;

use crate::backends::Sample;
use crate::cases::{cube, distance};

fn cuda() -> CubeDevice {
    let client = device::cuda(0).unwrap();
    let name = &client.properties().identity.name;
    assert!(name.contains("simulator"), "{name}");
    CubeDevice::Cuda(Default::default())
}

/// With Fusion and without, with gradients and without. `unit` is the rounding of the storage type: a few of them pass
/// from inputs to results.
fn verify(sample: Sample, unit: f64) {
    let device = cuda();
    let plain = sample.output::<CubeBackend>(&device);
    assert_eq!(sample.output::<Fusion<CubeBackend>>(&device), plain);
    let ours = sample.gradients::<CubeBackend, NoCheckpointing>(&device);
    assert_eq!(ours[0], plain);
    let fused = sample.gradients::<Fusion<CubeBackend>, BalancedCheckpointing>(&device);
    assert_eq!(fused, ours);

    let expected = sample.exact();
    let names = ["output", "dq", "dk", "dv", "dlambda", "dgamma"];
    for (name, (ours, expected)) in names.iter().zip(ours.iter().zip(&expected)) {
        let error = distance(ours, expected);
        println!("{:?} {name} {error:.1e}", sample.dtype);
        assert!(error < 3.0 * unit, "{name} is off by {error:e}");
    }
}

#[test]
fn single_precision_on_cuda() {
    with_driver("cuda::single_precision_on_cuda", || {
        let (dim, dtype) = (16, DType::F32);
        // Sums of f32 add up their own.
        verify(Sample { dim, dtype }, 8.0 * f64::from(f32::EPSILON));
    });
}

/// With tensor cores, tensor maps and clusters.
#[test]
fn half_precision_on_cuda() {
    with_driver("cuda::half_precision_on_cuda", || {
        for (dtype, digits) in [(DType::BF16, 8), (DType::F16, 11)] {
            verify(Sample { dim: 64, dtype }, 2f64.powi(-digits));
        }
    });
}

#[test]
fn golden_cases_on_cuda() {
    let test = crate::golden_cases::fused_operation_agrees_with_every_case;
    with_driver("cuda::golden_cases_on_cuda", test);
}

#[test]
fn every_kind_of_problem_on_cuda() {
    let test = crate::operation::fused_agrees_with_composed;
    with_driver("cuda::every_kind_of_problem_on_cuda", test);
}

#[test]
fn views_on_cuda() {
    let test = crate::operation::views_are_read_where_they_lie;
    with_driver("cuda::views_on_cuda", test);
}

#[test]
fn checkpointing_on_cuda() {
    let test = crate::backends::checkpointing_recomputes_what_comes_before;
    with_driver("cuda::checkpointing_on_cuda", test);
}

#[test]
fn attention_in_half_precision_on_cuda() {
    with_driver("cuda::attention_in_half_precision_on_cuda", || {
        // Heads as the kernel with tensor cores takes them.
        let model = DiffTransformerConfig::new(97, 128, 1, 1).with_head_dim(Some(64));
        let layer = MultiHeadDiffAttentionConfig::new(128, 1).with_head_dim(Some(64));
        let bf16 = (FloatDType::BF16, 2f64.powi(-8));
        crate::half_attention::verify(model, &cube(), bf16);
        crate::half_attention::verify_lambda(&layer, &cube(), bf16);
    });
}
