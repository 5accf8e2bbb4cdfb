//! Models of `f32` parameters whose attention is in half precision.

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use diff_flash_attn::burn::{
    DiffTransformerConfig, MultiHeadDiffAttention, MultiHeadDiffAttentionConfig,
};

use crate::cases::{Source, cube, distance, values};
use crate::modules::{KINDS, config, generate, logits_and_gradients, tokens};
use crate::parameters::{ToF64, fixed, named_gradients};

/// `f16` and `bf16`, and how far the nearest may lie from a number, relative to it.
const HALVES: [(FloatDType, f64); 2] = [
    (FloatDType::F16, 1.0 / 2048.0),
    (FloatDType::BF16, 1.0 / 256.0),
];

/// The logits, and gradients in `f32` of every parameter, against the model of the same parameters in `f64`.
pub(crate) fn verify(
    config: DiffTransformerConfig,
    device: &Device,
    (dtype, unit): (FloatDType, f64),
) {
    let flex = Device::flex().autodiff();
    let single = fixed(config.init(&flex));
    let half = single
        .clone()
        .fork(&device.clone().autodiff())
        .with_attention_dtype(Some(dtype));
    let exact = logits_and_gradients(&single.map(&mut ToF64), &Device::flex());
    let ours = logits_and_gradients(&half, device);
    assert_eq!(ours.len(), exact.len());
    for ((name, ours), (_, exact)) in ours.iter().zip(&exact) {
        let error = distance(ours, exact);
        println!("{dtype:?} {name} {error:.1e}");
        if name.contains("lambda_q") || name.contains("lambda_k") {
            println!("not judged here: the sum over all tokens may cancel");
            continue;
        }
        assert!(error < 3.0 * unit, "{dtype:?}: {name} is off by {error:e}");
        // In single precision it is far less.
        assert!(
            error > unit / 100.0,
            "{dtype:?}: {name} was not rounded, {error:e}"
        );
    }
}

fn layer() -> MultiHeadDiffAttentionConfig {
    MultiHeadDiffAttentionConfig::new(64, 2)
}

/// The gradients of λ's vectors, by a loss whose slope along λ does not cancel over the tokens: the squared distance to
/// the output of another λ.
pub(crate) fn verify_lambda(
    config: &MultiHeadDiffAttentionConfig,
    device: &Device,
    (dtype, unit): (FloatDType, f64),
) {
    let flex = Device::flex().autodiff();
    let shape = [2, 9, config.d_model];
    let single = fixed(config.init(&flex));
    let mut half = single.clone().fork(&device.clone().autodiff());
    half.heads.attention_dtype = Some(dtype);
    let exact = single.map(&mut ToF64);
    let mut other = exact.clone();
    other.lambda_init += 0.3;
    let target = other.forward(Source::new(DType::F64, &flex).constant(shape));
    let gradients = |layer: &MultiHeadDiffAttention, device: &Device, dtype| {
        let device = device.clone().autodiff();
        let tokens = Source::new(dtype, &device).constant(shape);
        let target = Tensor::from_data(target.to_data().convert_dtype(dtype), (&device, dtype));
        let mut gradients = (layer.forward(tokens) - target).square().sum().backward();
        named_gradients(layer, &mut gradients)
    };
    let ours = gradients(&half, device, DType::F32);
    let exact = gradients(&exact, &Device::flex(), DType::F64);
    let of_lambda = ours.iter().zip(&exact);
    let of_lambda = of_lambda.filter(|((name, _), _)| name.starts_with("lambda"));
    let mut judged = 0;
    for ((name, ours), (_, exact)) in of_lambda {
        let error = distance(ours, exact);
        println!("{dtype:?} {name} {error:.1e}");
        assert!(error < 3.0 * unit, "{dtype:?}: {name} is off by {error:e}");
        judged += 1;
    }
    assert_eq!(judged, 4);
}

#[test]
fn every_gradient_is_near_that_of_single_precision() {
    for half in HALVES {
        for kind in KINDS {
            verify(config(kind), &Device::flex(), half);
        }
        verify_lambda(&layer(), &Device::flex(), half);
    }
}

#[test]
fn kernels_take_what_was_rounded() {
    if !cube().supports_dtype(DType::F16) {
        checks::skipped("the device has no f16");
        return;
    }
    for kind in KINDS {
        verify(config(kind), &cube(), HALVES[0]);
    }
    verify_lambda(&layer(), &cube(), HALVES[0]);
}

#[test]
fn a_cache_keeps_what_was_rounded() {
    let device = Device::flex();
    for kind in KINDS {
        for (dtype, unit) in HALVES {
            let model = fixed(config(kind).with_attention_dtype(Some(dtype)).init(&device));
            let tokens = tokens(12, &device);
            let full = values(model.forward(tokens.clone()));
            let error = distance(&values(generate(&model, tokens, 5)), &full);
            println!("{kind:?} {dtype:?} {error:.1e}");
            // The heads' outputs are rounded; sums in another order may fall on the other side.
            assert!(error < unit / 10.0, "{kind:?} {dtype:?}: {error:e}");
        }
    }
}
