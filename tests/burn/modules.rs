//! The modules: generation with a cache, records, gradients of every parameter, the decoder.

use burn::config::Config;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use diff_flash_attn::burn::{
    AttentionKind, DecoderCache, DiffTransformer, DiffTransformerConfig, KeyValueCache,
    MultiHeadDiffAttentionConfig, MultiHeadDiffAttentionV2Config, MultiHeadStandardAttentionConfig,
    Pairing,
};

use crate::cases::{Source, cube, difference, values};
use crate::parameters::{ToF64, fixed, named_gradients};

pub(crate) const KINDS: [AttentionKind; 3] = [
    AttentionKind::Diff,
    AttentionKind::DiffV2,
    AttentionKind::Standard,
];

pub(crate) fn config(kind: AttentionKind) -> DiffTransformerConfig {
    DiffTransformerConfig::new(97, 64, 2, 4)
        .with_attention(kind)
        .with_n_kv_heads(Some(2))
        .with_head_dim(Some(16))
}

pub(crate) fn tokens(len: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..2 * len as i64, device)
        .mul_scalar(31)
        .remainder_scalar(97)
        .reshape([2, len])
}

/// Prefill of the first tokens, then one token at a time, then two at once.
pub(crate) fn generate(
    model: &DiffTransformer,
    tokens: Tensor<2, Int>,
    prefill: usize,
) -> Tensor<3> {
    let mut cache = DecoderCache::new();
    let len = tokens.dims()[1];
    let mut parts = vec![model.forward_cached(tokens.clone().narrow(1, 0, prefill), &mut cache)];
    let mut at = prefill;
    while at < len {
        let step = if at + 2 == len { 2 } else { 1 };
        parts.push(model.forward_cached(tokens.clone().narrow(1, at, step), &mut cache));
        at += step;
        assert_eq!(cache.len(), at);
    }
    Tensor::cat(parts, 1)
}

#[test]
fn generation_with_a_cache_is_the_full_forward_pass() {
    let device = cube();
    for kind in KINDS {
        for window in [None, Some(4)] {
            let model = fixed(config(kind).with_window(window).init(&device));
            let tokens = tokens(12, &device);
            let full = values(model.forward(tokens.clone()));
            let error = difference(&values(generate(&model, tokens, 5)), &full);
            assert!(error < 2e-5, "{kind:?}, window {window:?}: {error:e}");
        }
    }
}

#[test]
fn a_later_token_changes_nothing_before_it() {
    let device = cube();
    for kind in KINDS {
        let model = fixed(config(kind).init(&device));
        let long = model.forward(tokens(12, &device).narrow(0, 0, 1));
        let short = model.forward(tokens(12, &device).narrow(0, 0, 1).narrow(1, 0, 7));
        let error = difference(&values(short), &values(long.narrow(1, 0, 7)));
        assert!(error < 2e-5, "{kind:?}: {error:e}");
    }
}

/// Logits, and the gradient of every parameter by its name.
pub(crate) fn logits_and_gradients(
    model: &DiffTransformer,
    device: &Device,
) -> Vec<(String, Vec<f64>)> {
    let logits = model.forward(tokens(9, &device.clone().autodiff()));
    // No constant gradient: the sines of the logits.
    let mut gradients = logits.clone().sin().sum().backward();
    let mut computed = vec![("logits".to_string(), values(logits))];
    computed.extend(named_gradients(model, &mut gradients));
    computed
}

/// The same parameters on the device of CubeCL, through the kernels, and in `f64` on the CPU.
#[test]
fn every_parameter_gets_the_gradient_of_the_composed_form() {
    for kind in KINDS {
        let fused = fixed(config(kind).init(&cube().autodiff()));
        let exact = fused
            .clone()
            .fork(&Device::flex().autodiff())
            .map(&mut ToF64);
        let ours = logits_and_gradients(&fused, &cube());
        let exact = logits_and_gradients(&exact, &Device::flex());
        assert!(ours.len() > 18, "{} tensors", ours.len());
        for ((name, ours), (_, exact)) in ours.iter().zip(&exact) {
            let error = difference(ours, exact);
            assert!(error < 1e-3, "{kind:?}: {name} is off by {error:e}");
        }
        assert_eq!(ours.len(), exact.len());
    }
}

/// Moves one tensor of many along a direction of its own, and takes all off the graph.
struct Move {
    /// Tensors before it.
    left: usize,
    by: f64,
}

impl Move {
    fn tensor<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        let by = if self.left == 0 { self.by } else { 0.0 };
        self.left = self.left.wrapping_sub(1);
        let shape = tensor.dims();
        let along = directions(shape.iter().product());
        let moved = values(tensor).into_iter().zip(along);
        let moved = moved.map(|(x, along)| x + along * by).collect::<Vec<_>>();
        let device = Device::flex();
        Tensor::from_data(TensorData::new(moved, shape), (&device, DType::F64))
    }
}

impl ModuleMapper for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let moved = self.tensor(param.val());
        Param::initialized(param.id, moved)
    }
}

fn directions(len: usize) -> impl Iterator<Item = f64> {
    (0..len).map(|i| (i as f64 * 0.7).cos())
}

/// Compares the gradient of every parameter, and of the input, with central differences.
fn check_gradients<M: Module>(layer: M, forward: impl Fn(&M, Tensor<3>) -> Tensor<3>) {
    let layer = layer.map(&mut ToF64);
    let loss = |layer: &M, tokens| forward(layer, tokens).sin().sum();
    let tokens = Source::new(DType::F64, &Device::flex().autodiff()).tensor([2, 7, 32]);
    let mut gradients = loss(&layer, tokens.clone()).backward();
    let input = values(tokens.grad(&gradients).unwrap());
    let mut found = named_gradients(&layer, &mut gradients);
    found.push(("input".to_string(), input));
    for (at, (name, gradient)) in found.iter().enumerate() {
        let along = |by| {
            let mut one = Move { left: at, by };
            let layer = layer.clone().map(&mut one);
            values(loss(&layer, one.tensor(tokens.clone())))[0]
        };
        // Two differences, so that what is left of the curvature is of the fourth order in the step:
        // after the norm, a row whose two maps nearly cancel bends strongly.
        let difference = |step: f64| (along(step) - along(-step)) / (2.0 * step);
        let slope = (4.0 * difference(1e-4) - difference(2e-4)) / 3.0;
        let pairs = gradient.iter().zip(directions(gradient.len()));
        let expected: f64 = pairs.map(|(gradient, along)| gradient * along).sum();
        println!("{name}: {slope:e} by differences, {expected:e} by gradients");
        assert!(gradient.iter().any(|x| *x != 0.0), "{name}");
        assert!(
            (slope - expected).abs() < 1e-8 * (1.0 + expected.abs()),
            "{name}"
        );
    }
}

#[test]
fn gradients_of_the_layers_are_those_of_finite_differences() {
    let device = Device::flex().autodiff();
    macro_rules! check {
        ($config:expr) => {
            let layer = fixed($config.with_rotary_base(Some(100.0)).init(&device));
            check_gradients(layer, |layer, tokens| layer.forward(tokens));
        };
    }
    check!(MultiHeadDiffAttentionConfig::new(32, 2).with_n_kv_heads(Some(1)));
    check!(MultiHeadDiffAttentionV2Config::new(32, 4).with_n_kv_heads(Some(2)));
    check!(
        MultiHeadStandardAttentionConfig::new(32, 4)
            .with_bias(true)
            .with_window(Some(3))
    );
}

#[test]
fn records_keep_every_parameter() {
    let device = cube();
    for kind in KINDS {
        let model = fixed(config(kind).init(&device));
        let tokens = tokens(6, &device);
        let expected = values(model.forward(tokens.clone()));
        let other = config(kind).init(&device);
        assert_ne!(values(other.forward(tokens.clone())), expected);
        let loaded = other.load_record(model.clone().into_record());
        let error = difference(&values(loaded.forward(tokens)), &expected);
        assert!(error < 1e-5, "{kind:?}: {error:e}");
        let bytes = |model: DiffTransformer| model.into_record().into_bytes().unwrap();
        assert!(bytes(loaded) == bytes(model), "{kind:?}");
    }
}

#[test]
fn configurations_survive_json() {
    let config = config(AttentionKind::DiffV2)
        .with_window(Some(3))
        .with_attention_dtype(Some(FloatDType::BF16))
        .with_pairing(Pairing::Halves);
    let file = tempfile::NamedTempFile::new().unwrap();
    config.save(file.path()).unwrap();
    let loaded = DiffTransformerConfig::load(file.path()).unwrap();
    assert_eq!(format!("{loaded:?}"), format!("{config:?}"));
}

#[test]
fn layers_alone_follow_their_cache() {
    let device = cube();
    let mut source = Source::new(DType::F32, &device);
    let tokens = source.constant([2, 7, 64]);
    let split = [
        tokens.clone().narrow(1, 0, 4),
        tokens.clone().narrow(1, 4, 3),
    ];
    macro_rules! check {
        ($config:expr) => {
            let layer = fixed($config.with_rotary_base(Some(10000.0)).init(&device));
            let mut cache = KeyValueCache::new();
            let parts = split
                .clone()
                .map(|part| layer.forward_cached(part, &mut cache));
            let parts = values(Tensor::cat(parts.into(), 1));
            let error = difference(&parts, &values(layer.forward(tokens.clone())));
            assert!(error < 2e-5, "{error:e}");
        };
    }
    check!(MultiHeadDiffAttentionConfig::new(64, 2).with_bias(true));
    check!(
        MultiHeadDiffAttentionConfig::new(64, 4)
            .with_n_kv_heads(Some(1))
            .with_pairing(Pairing::Halves)
    );
    check!(MultiHeadDiffAttentionV2Config::new(64, 4).with_n_kv_heads(Some(2)));
    check!(MultiHeadStandardAttentionConfig::new(64, 4).with_n_kv_heads(Some(2)));
}

#[test]
fn deeper_layers_start_with_a_larger_lambda() {
    let device = cube();
    for layer in [0, 5] {
        let attention = MultiHeadDiffAttentionConfig::new(64, 2)
            .with_layer(layer)
            .with_lambda_std(0.0)
            .init(&device);
        let lambda = values(attention.lambda())[0];
        let expected = f64::from(diff_flash_attn::lambda::lambda_init(layer));
        assert!((lambda - expected).abs() < 1e-6, "{lambda}");
    }
}
