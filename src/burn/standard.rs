//! Multi-head standard attention from the same kernels, to compare with.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Tensor};

use super::attention::attention;
use super::cache::KeyValueCache;
use super::heads::{Projector, default_initializer, mask, merge, project, split};
use super::rotary::{RotaryTable, rotary};
use crate::attention::Options;

/// Configuration of a [`MultiHeadStandardAttention`].
#[derive(Config, Debug)]
pub struct MultiHeadStandardAttentionConfig {
    /// Features of a token.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, a divisor of the query heads; by default as many.
    pub n_kv_heads: Option<usize>,
    /// Dimension of a query, a key and a value, a multiple of 8; by default `d_model / n_heads`.
    pub head_dim: Option<usize>,
    /// Whether a token sees only those before it and itself.
    #[config(default = true)]
    pub causal: bool,
    /// How many tokens before itself (and after itself, if not causal) a token sees; by default all.
    pub window: Option<usize>,
    /// Base of the rotary position embedding; by default there is none.
    pub rotary_base: Option<f64>,
    /// Whether projections have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// What projections start from.
    #[config(default = "default_initializer()")]
    pub initializer: Initializer,
}

impl MultiHeadStandardAttentionConfig {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadStandardAttention {
        let kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        let dim = self.head_dim.unwrap_or(self.d_model / self.n_heads);
        let projector = Projector {
            initializer: &self.initializer,
            bias: self.bias,
            device,
        };
        MultiHeadStandardAttention {
            q_proj: projector.init(self.d_model, self.n_heads * dim),
            k_proj: projector.init(self.d_model, kv_heads * dim),
            v_proj: projector.init(self.d_model, kv_heads * dim),
            o_proj: projector.init(self.n_heads * dim, self.d_model),
            n_heads: self.n_heads,
            n_kv_heads: kv_heads,
            head_dim: dim,
            causal: self.causal,
            window: self.window,
            rotary_base: self.rotary_base,
        }
    }
}

/// Multi-head standard attention with memory linear in the sequence length, forward and backward.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use diff_flash_attn::burn::MultiHeadStandardAttentionConfig;
///
/// let device = Device::default();
/// let layer = MultiHeadStandardAttentionConfig::new(64, 4).init(&device);
/// let tokens = Tensor::<3>::random([1, 6, 64], Distribution::Default, &device);
/// assert_eq!(layer.forward(tokens).dims(), [1, 6, 64]);
/// ```
#[derive(Module, Debug)]
pub struct MultiHeadStandardAttention {
    /// To the queries, `d_model → H·d`.
    pub q_proj: Linear,
    /// To the keys, `d_model → Hk·d`.
    pub k_proj: Linear,
    /// To the values, `d_model → Hk·d`.
    pub v_proj: Linear,
    /// From the heads' outputs, `H·d → d_model`.
    pub o_proj: Linear,
    /// Query heads H.
    pub n_heads: usize,
    /// Key and value heads Hk.
    pub n_kv_heads: usize,
    /// Dimension d of a query, a key and a value.
    pub head_dim: usize,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
    /// How far a token sees.
    #[module(skip)]
    pub window: Option<usize>,
    /// Base of the rotary position embedding.
    #[module(skip)]
    pub rotary_base: Option<f64>,
}

impl MultiHeadStandardAttention {
    /// The layer's output for whole sequences: `[B, N, d_model]` to `[B, N, d_model]`.
    ///
    /// # Panics
    /// As [`attention`].
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let table = rotary(self.rotary_base, self.head_dim, 0, &input);
        self.attend(input, table.as_ref(), None)
    }

    /// The output for the tokens that follow those in `cache`, to which they are added.
    ///
    /// # Panics
    /// As [`attention`].
    pub fn forward_cached(&self, input: Tensor<3>, cache: &mut KeyValueCache) -> Tensor<3> {
        let table = rotary(self.rotary_base, self.head_dim, cache.len(), &input);
        self.attend(input, table.as_ref(), Some(cache))
    }

    pub(super) fn attend(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [query, key, value] = project(projections, input, rotary, cache);
        let options = Options {
            mask: mask(self.causal, self.window),
            ..Options::default()
        };
        let output = attention(
            split(query, self.n_heads),
            split(key, self.n_kv_heads),
            split(value, self.n_kv_heads),
            &options,
        );
        self.o_proj.forward(merge(output))
    }
}
