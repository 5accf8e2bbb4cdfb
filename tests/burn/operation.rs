//! The fused operation against the composed form, and the composed form against finite differences.

use burn::tensor::{DType, Device, Tensor, TensorData};
use diff_flash_attn::burn::{attention, composed};
use diff_flash_attn::{Mask, Options};

use crate::cases::{Case, Form, NORM, Source, cube, difference, distance, values};

fn cases() -> Vec<(&'static str, Case)> {
    let paper = Case::default();
    vec![
        ("paper", paper.clone()),
        (
            "grouped queries, halves apart, no weight",
            Case {
                heads: 4,
                value_halves: true,
                gamma: false,
                ..paper.clone()
            },
        ),
        (
            "V2: shared key, λ per token and head, no norm, more keys than queries",
            Case {
                heads: 4,
                kv_heads: 2,
                shared_key: true,
                value_dim: 16,
                queries: 9,
                keys: 21,
                lambda: vec![2, 4, 9],
                gamma: false,
                norm: None,
                ..paper.clone()
            },
        ),
        (
            "window, λ per head, scale, more queries than keys",
            Case {
                queries: 19,
                keys: 11,
                mask: Mask::Window {
                    left: Some(3),
                    right: Some(2),
                },
                lambda: vec![2, 1],
                scale: Some(0.7),
                shared_key: true,
                value_halves: true,
                ..paper.clone()
            },
        ),
        (
            "no mask, dimensions apart",
            Case {
                dim: 24,
                value_dim: 40,
                mask: Mask::None,
                ..paper
            },
        ),
    ]
}

#[test]
pub(crate) fn fused_agrees_with_composed() {
    for (name, case) in cases() {
        let exact = case.run(Form::Public, &Device::flex(), DType::F64);
        let fused = case.run(Form::Public, &cube(), DType::F32);
        for ((tensor, ours), (_, expected)) in fused.iter().zip(&exact) {
            let error = difference(ours, expected);
            println!("{name}: {tensor} {error:.1e}");
            assert!(error < 1e-4, "{name}: {tensor} is off by {error:e}");
        }
        assert_eq!(fused.len(), exact.len());
    }
}

#[test]
fn half_precision_is_the_rounding_of_single() {
    if !cube().supports_dtype(DType::F16) {
        checks::skipped("the device has no f16");
        return;
    }
    let case = Case::default();
    let single = case.run(Form::Public, &cube(), DType::F32);
    let half = case.run(Form::Public, &cube(), DType::F16);
    for ((tensor, ours), (_, expected)) in half.iter().zip(&single) {
        let error = distance(ours, expected);
        println!("{tensor} {error:.1e}");
        assert!(error < 5e-3, "{tensor} is off by {error:e}");
    }
}

#[test]
fn composed_gradients_are_those_of_finite_differences() {
    let device = Device::flex();
    for (name, case) in cases() {
        let computed = case.run(Form::Composed, &device, DType::F64);
        let (step, direction) = (1e-6, |case: &Case, by: f64| case.loss_along(by, &device));
        let slope = (direction(&case, step) - direction(&case, -step)) / (2.0 * step);
        let expected = case.slope(&computed);
        assert!(
            (slope - expected).abs() < 1e-6 * (1.0 + expected.abs()),
            "{name}: {slope} by differences, {expected} by gradients"
        );
    }
}

impl Case {
    /// The loss with all inputs moved by `by` along fixed directions.
    fn loss_along(&self, by: f64, device: &Device) -> f64 {
        let mut source = Source::new(DType::F64, device);
        let moved = Moved {
            case: self,
            by,
            device,
        };
        moved.loss(&mut source)
    }

    /// The same loss's slope from computed gradients.
    fn slope(&self, computed: &[(&'static str, Vec<f64>)]) -> f64 {
        computed
            .iter()
            .skip(1)
            .map(|(name, gradient)| {
                let along = directions(name, gradient.len());
                gradient.iter().zip(along).map(|(x, y)| x * y).sum::<f64>()
            })
            .sum()
    }
}

/// A direction for each tensor, by the name of its gradient.
fn directions(name: &str, len: usize) -> Vec<f64> {
    let seed = name.bytes().map(f64::from).sum::<f64>();
    (0..len).map(|i| (seed + i as f64 * 0.7).sin()).collect()
}

/// A case whose inputs are moved.
struct Moved<'a> {
    case: &'a Case,
    by: f64,
    device: &'a Device,
}

impl Moved<'_> {
    fn shift<const D: usize>(&self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let along = directions(name, tensor.shape().num_elements());
        let along = TensorData::new(along, tensor.dims());
        let along = Tensor::from_data(along, (self.device, DType::F64));
        tensor + along * self.by
    }

    /// Draws the inputs in the order in which [`Case::run`] does.
    fn loss(&self, source: &mut Source) -> f64 {
        let case = self.case;
        let (b, h, hk, n, m) = (
            case.batch,
            case.heads,
            case.kv_heads,
            case.queries,
            case.keys,
        );
        let query = self.shift("dq", source.constant([b, h, 2, n, case.dim]));
        let lambda = self.shift("dlambda", source.lambda(&case.lambda));
        let gamma = case
            .gamma
            .then(|| self.shift("dgamma", source.constant([case.value_dim])));
        let weights = source.constant([b, h, n, case.value_dim]);
        let maps = if case.shared_key { 1 } else { 2 };
        let key = self.shift("dk", source.constant([b, hk, maps, m, case.dim]));
        let options = case.options();
        let output = if case.value_halves {
            let value = self.shift("dv", source.constant([b, hk, 2, m, case.value_dim / 2]));
            composed::diff_attention(query, key, value, lambda, gamma, &options)
        } else {
            let value = self.shift("dv", source.constant([b, hk, m, case.value_dim]));
            composed::diff_attention(query, key, value, lambda, gamma, &options)
        };
        values((output * weights).sum())[0]
    }
}

#[test]
fn standard_attention_agrees_with_composed() {
    for (mask, norm) in [(Mask::Causal, None), (Mask::None, Some(NORM))] {
        let options = Options::default().with_mask(mask).with_norm(norm);
        let run = |device: Device, dtype| {
            let mut source = Source::new(dtype, &device.autodiff());
            let inputs = [4, 2, 2].map(|heads| source.tensor([1, heads, 17, 16]));
            let weights = source.constant([1, 4, 17, 16]);
            let [query, key, value] = inputs.clone();
            let output = attention(query, key, value, &options);
            let gradients = (output.clone() * weights).sum().backward();
            let mut computed = vec![values(output)];
            computed.extend(inputs.map(|input| values(input.grad(&gradients).unwrap())));
            computed
        };
        let (ours, exact) = (run(cube(), DType::F32), run(Device::flex(), DType::F64));
        for (ours, exact) in ours.iter().zip(&exact) {
            assert!(difference(ours, exact) < 1e-4);
        }
    }
}

/// Heads in the order in which projections give them, and a key that is expanded: the result is that of tensors that
/// were written out.
#[test]
pub(crate) fn views_are_read_where_they_lie() {
    let device = cube();
    let mut source = Source::new(DType::F32, &device);
    let tokens = source.constant([1, 10, 4, 2, 16]);
    let view = tokens.permute([0, 2, 3, 1, 4]);
    let written = Tensor::<5>::from_data(view.to_data(), &device);
    let shared = source.constant([1, 4, 1, 10, 16]);
    let expanded = shared.clone().expand([1, 4, 2, 10, 16]);
    let value = source
        .constant([1, 4, 10, 32])
        .slice([0..1, 0..4, 0..10, 8..24]);
    let lambda = source.constant([1]);
    let run = |query: Tensor<5>, key: Tensor<5>, value: Tensor<4>| {
        let options = Options::default();
        let function = diff_flash_attn::burn::diff_attention;
        values(function(query, key, value, lambda.clone(), None, &options))
    };
    let value_written = Tensor::<4>::from_data(value.to_data(), &device);
    let plain = run(written.clone(), shared, value_written);
    assert_eq!(run(view.clone(), expanded, value.clone()), plain);
    // The last axis far apart: the one layout that is copied.
    let turned = written.swap_dims(3, 4);
    let turned = Tensor::<5>::from_data(turned.to_data(), &device).swap_dims(3, 4);
    assert_eq!(
        run(turned, view.clone(), value.clone()),
        run(view.clone(), view, value)
    );
}
