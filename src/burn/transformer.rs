//! A decoder with differential attention: pre-norm, SwiGLU, rotary positions; whole sequences or one token at a time.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{
    Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig, RmsNorm, RmsNormConfig,
};
use burn::tensor::activation::silu;
use burn::tensor::{Device, FloatDType, Int, Tensor};

use super::cache::KeyValueCache;
use super::heads::Pairing;
use super::layer::Layer;
use super::rotary::RotaryTable;
use super::standard::{MultiHeadStandardAttention, MultiHeadStandardAttentionConfig};
use super::v1::{MultiHeadDiffAttention, MultiHeadDiffAttentionConfig};
use super::v2::{MultiHeadDiffAttentionV2, MultiHeadDiffAttentionV2Config};

/// The attention of a decoder's layers.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// [`MultiHeadDiffAttention`].
    Diff,
    /// [`MultiHeadDiffAttentionV2`].
    DiffV2,
    /// [`MultiHeadStandardAttention`].
    Standard,
}

/// Configuration of a [`DiffTransformer`].
#[derive(Config, Debug)]
pub struct DiffTransformerConfig {
    /// Tokens that there are.
    pub vocab_size: usize,
    /// Features of a token.
    pub d_model: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads of a layer: differential heads, or heads of standard attention.
    pub n_heads: usize,
    /// The attention.
    #[config(default = "AttentionKind::Diff")]
    pub attention: AttentionKind,
    /// Key and value heads, a divisor of the query heads; by default as many.
    pub n_kv_heads: Option<usize>,
    /// Dimension of a query and a key, a multiple of 8; by default what gives the heads together `d_model` features.
    pub head_dim: Option<usize>,
    /// Hidden features of a layer's SwiGLU; by default 8/3 of `d_model`, rounded up to a multiple of 8.
    pub d_hidden: Option<usize>,
    /// How many tokens before itself a token sees; by default all.
    pub window: Option<usize>,
    /// Base of the rotary position embedding.
    #[config(default = 10000.0)]
    pub rotary_base: f64,
    /// What queries, keys and values are rounded to for the attention, and kept as in a [`DecoderCache`]: in a model of
    /// `f32` parameters `BF16` or `F16` halve them, and give the attention the forward kernel for compute capability 9.0
    /// on CUDA devices of that. By default they stay as projected.
    pub attention_dtype: Option<FloatDType>,
    /// Which projected heads form a pair, in [`AttentionKind::Diff`].
    #[config(default = "Pairing::Interleaved")]
    pub pairing: Pairing,
    /// Whether the norm of a head's output has a learned weight, in [`AttentionKind::Diff`].
    #[config(default = true)]
    pub norm_weight: bool,
    /// Added to the mean square in every norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Standard deviation that the vectors of λ start with, in [`AttentionKind::Diff`].
    #[config(default = 0.1)]
    pub lambda_std: f64,
    /// Whether the projections of attention have a bias.
    #[config(default = false)]
    pub attention_bias: bool,
    /// What every matrix starts from.
    #[config(default = "Initializer::Normal { mean: 0.0, std: 0.02 }")]
    pub initializer: Initializer,
}

impl DiffTransformerConfig {
    /// A decoder with random parameters.
    pub fn init(&self, device: &Device) -> DiffTransformer {
        DiffTransformer {
            embed_tokens: EmbeddingConfig::new(self.vocab_size, self.d_model)
                .with_initializer(self.initializer.clone())
                .init(device),
            layers: (0..self.n_layers)
                .map(|layer| self.layer(layer, device))
                .collect(),
            norm: self.norm(device),
            lm_head: self.linear(self.d_model, self.vocab_size, device),
        }
    }

    fn layer(&self, layer: usize, device: &Device) -> DecoderLayer {
        let hidden = self
            .d_hidden
            .unwrap_or((self.d_model * 8).div_ceil(3).next_multiple_of(8));
        DecoderLayer {
            input_layernorm: self.norm(device),
            self_attn: self.attention(layer, device),
            post_attention_layernorm: self.norm(device),
            mlp: SwiGluMlp {
                gate_proj: self.linear(self.d_model, hidden, device),
                up_proj: self.linear(self.d_model, hidden, device),
                down_proj: self.linear(hidden, self.d_model, device),
            },
        }
    }

    fn norm(&self, device: &Device) -> RmsNorm {
        RmsNormConfig::new(self.d_model)
            .with_epsilon(self.norm_epsilon)
            .init(device)
    }

    fn linear(&self, from: usize, to: usize, device: &Device) -> Linear {
        LinearConfig::new(from, to)
            .with_bias(false)
            .with_initializer(self.initializer.clone())
            .init(device)
    }

    fn attention(&self, layer: usize, device: &Device) -> SelfAttention {
        match self.attention {
            AttentionKind::Diff => SelfAttention::Diff(self.diff(layer).init(device)),
            AttentionKind::DiffV2 => {
                SelfAttention::DiffV2(MultiHeadDiffAttentionV2Config::of(self).init(device))
            }
            AttentionKind::Standard => {
                SelfAttention::Standard(MultiHeadStandardAttentionConfig::of(self).init(device))
            }
        }
    }

    fn diff(&self, layer: usize) -> MultiHeadDiffAttentionConfig {
        MultiHeadDiffAttentionConfig::of(self)
            .with_layer(layer)
            .with_pairing(self.pairing)
            .with_norm_weight(self.norm_weight)
            .with_norm_epsilon(self.norm_epsilon)
            .with_lambda_std(self.lambda_std)
    }
}

/// A decoder: embedding, layers of attention and SwiGLU, norm, logits. Its parameters are named as Hugging Face
/// DiffLlama's are.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use diff_flash_attn::burn::{DecoderCache, DiffTransformerConfig};
///
/// let device = Device::default();
/// let model = DiffTransformerConfig::new(256, 64, 2, 2).init(&device);
/// let tokens = Tensor::<2, Int>::from_ints([[104, 101, 108, 108, 111]], &device);
/// assert_eq!(model.forward(tokens.clone()).dims(), [1, 5, 256]);
///
/// let mut cache = DecoderCache::new();
/// model.forward_cached(tokens, &mut cache); // prefill
/// let next = Tensor::<2, Int>::from_ints([[33]], &device);
/// let logits = model.forward_cached(next, &mut cache);
/// assert_eq!(logits.dims(), [1, 1, 256]);
/// println!("likeliest: {}", logits.argmax(2).into_scalar::<i32>());
/// ```
#[derive(Module, Debug)]
pub struct DiffTransformer {
    /// Features of each token.
    pub embed_tokens: Embedding,
    /// The layers.
    pub layers: Vec<DecoderLayer>,
    /// Norm of the last layer's output.
    pub norm: RmsNorm,
    /// To the logits of the next token.
    pub lm_head: Linear,
}

/// `x + attention(norm(x))`, then `x + SwiGLU(norm(x))`.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Norm before the attention.
    pub input_layernorm: RmsNorm,
    /// The attention.
    pub self_attn: SelfAttention,
    /// Norm before the SwiGLU.
    pub post_attention_layernorm: RmsNorm,
    /// The SwiGLU.
    pub mlp: SwiGluMlp,
}

/// A layer's attention.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one kind")]
pub enum SelfAttention {
    /// Differential attention.
    Diff(MultiHeadDiffAttention),
    /// Differential attention, second version.
    DiffV2(MultiHeadDiffAttentionV2),
    /// Standard attention.
    Standard(MultiHeadStandardAttention),
}

/// `down(silu(gate(x)) ⊙ up(x))`.
#[derive(Module, Debug)]
pub struct SwiGluMlp {
    /// To the gate.
    pub gate_proj: Linear,
    /// To what is gated.
    pub up_proj: Linear,
    /// Back to the features of a token.
    pub down_proj: Linear,
}

/// The caches of a decoder's layers.
#[derive(Debug, Clone, Default)]
pub struct DecoderCache {
    layers: Vec<KeyValueCache>,
}

impl DecoderCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KeyValueCache::len)
    }

    /// Whether no token has been seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl DiffTransformer {
    /// The same parameters with another [`attention_dtype`](DiffTransformerConfig::attention_dtype): for a checkpoint that
    /// was loaded.
    pub fn with_attention_dtype(mut self, dtype: Option<FloatDType>) -> Self {
        for layer in &mut self.layers {
            layer.self_attn.layer_mut().heads_mut().attention_dtype = dtype;
        }
        self
    }

    /// Logits of the token after each, `[B, N]` to `[B, N, vocab_size]`.
    ///
    /// # Panics
    /// As [`diff_attention`](super::diff_attention).
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.logits(tokens, 0, self.layers.iter().map(|_| None).collect())
    }

    /// The logits for the tokens that follow those in `cache`, to which they are added.
    ///
    /// # Panics
    /// As [`diff_attention`](super::diff_attention).
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut DecoderCache) -> Tensor<3> {
        let start = cache.len();
        cache
            .layers
            .resize_with(self.layers.len(), KeyValueCache::new);
        self.logits(tokens, start, cache.layers.iter_mut().map(Some).collect())
    }

    fn logits(
        &self,
        tokens: Tensor<2, Int>,
        start: usize,
        caches: Vec<Option<&mut KeyValueCache>>,
    ) -> Tensor<3> {
        let mut features = self.embed_tokens.forward(tokens);
        // All layers turn their queries and keys by the same angles.
        let table = self
            .layers
            .first()
            .and_then(|layer| layer.self_attn.layer().heads().rotary(start, &features));
        for (layer, cache) in self.layers.iter().zip(caches) {
            features = layer.forward(features, table.as_ref(), cache);
        }
        self.lm_head.forward(self.norm.forward(features))
    }
}

impl DecoderLayer {
    fn forward(
        &self,
        features: Tensor<3>,
        rotary: Option<&RotaryTable>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.forward(features.clone());
        let features = features + self.self_attn.layer().attend(normed, rotary, cache);
        let normed = self.post_attention_layernorm.forward(features.clone());
        features + self.mlp.forward(normed)
    }
}

impl SelfAttention {
    fn layer(&self) -> &dyn Layer {
        match self {
            SelfAttention::Diff(layer) => layer,
            SelfAttention::DiffV2(layer) => layer,
            SelfAttention::Standard(layer) => layer,
        }
    }

    fn layer_mut(&mut self) -> &mut dyn Layer {
        match self {
            SelfAttention::Diff(layer) => layer,
            SelfAttention::DiffV2(layer) => layer,
            SelfAttention::Standard(layer) => layer,
        }
    }
}

impl SwiGluMlp {
    /// The output, of the shape of `input`, `[.., d_model]`.
    ///
    /// # Panics
    /// If `input` has another last axis.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let gate = silu(self.gate_proj.forward(input.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(input))
    }
}
