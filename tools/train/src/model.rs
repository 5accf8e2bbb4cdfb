//! Models that are compared: one width and depth, one number of parameters, three kinds of attention.

use burn::module::Module;
use burn::nn::Initializer;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, FloatDType, Tensor};
use clap::ValueEnum;
use diff_flash_attn::burn::{AttentionKind, DiffTransformer, DiffTransformerConfig};
use serde::{Deserialize, Serialize};

use crate::text::Batch;

/// Kinds of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The Differential Transformer's.
    Diff,
    /// DIFF V2's.
    V2,
    /// The Transformer's.
    Standard,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Diff => "diff",
            Kind::V2 => "v2",
            Kind::Standard => "standard",
        })
    }
}

/// Sizes of a model and of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// For a software driver.
    Small,
    /// For a GPU.
    Large,
}

impl Size {
    /// Features and layers.
    fn width_and_depth(self) -> [usize; 2] {
        match self {
            Size::Small => [64, 2],
            Size::Large => [512, 8],
        }
    }

    /// Dimension of a head of standard attention.
    fn head_dim(self) -> usize {
        match self {
            Size::Small => 16,
            Size::Large => 64,
        }
    }

    /// Sequences of a batch, and their bytes.
    pub(crate) fn batch_and_context(self) -> [usize; 2] {
        match self {
            Size::Small => [8, 64],
            Size::Large => [16, 1024],
        }
    }

    /// Steps of a training, unless asked otherwise.
    pub(crate) fn steps(self) -> usize {
        match self {
            Size::Small => 600,
            Size::Large => 5000,
        }
    }

    /// The highest learning rate.
    pub(crate) fn learning_rate(self) -> f64 {
        match self {
            Size::Small => 3e-3,
            Size::Large => 6e-4,
        }
    }
}

/// What the attention of a model computes in; the rest is `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// As the rest.
    #[default]
    F32,
    /// Half the memory of keys and values, and tensor cores on compute capability 9.0, forward.
    F16,
    /// The same, with the range of f32.
    Bf16,
}

impl Precision {
    fn dtype(self) -> Option<FloatDType> {
        match self {
            Precision::F32 => None,
            Precision::F16 => Some(FloatDType::F16),
            Precision::Bf16 => Some(FloatDType::BF16),
        }
    }

    /// Whether a device has it.
    pub(crate) fn is_on(self, device: &Device) -> bool {
        self.dtype()
            .is_none_or(|dtype| device.supports_dtype(dtype))
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        })
    }
}

/// A model over bytes.
pub(crate) fn config(kind: Kind, size: Size, precision: Precision) -> DiffTransformerConfig {
    let [width, layers] = size.width_and_depth();
    let heads = width / size.head_dim();
    // A differential head of the first version has values twice as wide: half as many make the same width.
    let (attention, heads) = match kind {
        Kind::Diff => (AttentionKind::Diff, heads / 2),
        Kind::V2 => (AttentionKind::DiffV2, heads),
        Kind::Standard => (AttentionKind::Standard, heads),
    };
    // The 0.02 of published models is about this at their widths.
    let std = 0.5 / (width as f64).sqrt();
    DiffTransformerConfig::new(256, width, layers, heads)
        .with_attention(attention)
        .with_attention_dtype(precision.dtype())
        .with_initializer(Initializer::Normal { mean: 0.0, std })
}

/// Mean cross-entropy of the bytes that follow, in nats.
pub(crate) fn loss(model: &DiffTransformer, batch: Batch) -> Tensor<1> {
    let logits = model.forward(batch.inputs);
    let [size, context, bytes] = logits.dims();
    let device = logits.device();
    let targets = batch.targets.reshape([size * context]);
    let logits = logits.reshape([size * context, bytes]);
    CrossEntropyLossConfig::new()
        .init(&device)
        .forward(logits, targets)
}

/// Mean loss over batches, without gradients.
pub(crate) fn held_out_loss(model: &DiffTransformer, batches: Vec<Batch>) -> f64 {
    let model = model.clone().valid();
    let count = batches.len() as f64;
    let losses = batches
        .into_iter()
        .map(|batch| loss(&model, batch).into_scalar::<f64>());
    losses.sum::<f64>() / count
}
