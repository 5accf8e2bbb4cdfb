//! Multi-head differential attention, second version: keys and values as in standard attention, twice the queries.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::attention::diff_attention;
use super::cache::KeyValueCache;
use super::composed::widened;
use super::heads::{Pairing, Projector, default_initializer, mask, merge, project, split};
use super::rotary::{RotaryTable, rotary};
use crate::attention::Options;

/// Configuration of a [`MultiHeadDiffAttentionV2`].
#[derive(Config, Debug)]
pub struct MultiHeadDiffAttentionV2Config {
    /// Features of a token.
    pub d_model: usize,
    /// Differential query heads H, as many as a standard Transformer has heads; there are 2H queries.
    pub n_heads: usize,
    /// Key and value heads, a divisor of H; by default H.
    pub n_kv_heads: Option<usize>,
    /// Dimension d of a query, a key and a value, a multiple of 8; by default `d_model / H`.
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

impl MultiHeadDiffAttentionV2Config {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadDiffAttentionV2 {
        let kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        let dim = self.head_dim.unwrap_or(self.d_model / self.n_heads);
        let projector = Projector {
            initializer: &self.initializer,
            bias: self.bias,
            device,
        };
        MultiHeadDiffAttentionV2 {
            q_proj: projector.init(self.d_model, self.n_heads * 2 * dim),
            k_proj: projector.init(self.d_model, kv_heads * dim),
            v_proj: projector.init(self.d_model, kv_heads * dim),
            o_proj: projector.init(self.n_heads * dim, self.d_model),
            lambda_proj: projector.init(self.d_model, self.n_heads),
            n_heads: self.n_heads,
            n_kv_heads: kv_heads,
            head_dim: dim,
            causal: self.causal,
            window: self.window,
            rotary_base: self.rotary_base,
        }
    }
}

/// Multi-head differential attention of DIFF V2: both maps share their key, λ is a sigmoid of a projection for every
/// token and head, and there is no norm.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use diff_flash_attn::burn::MultiHeadDiffAttentionV2Config;
///
/// let device = Device::default();
/// let layer = MultiHeadDiffAttentionV2Config::new(64, 4).with_n_kv_heads(Some(2)).init(&device);
/// let tokens = Tensor::<3>::random([1, 6, 64], Distribution::Default, &device);
/// assert_eq!(layer.forward(tokens).dims(), [1, 6, 64]);
/// ```
#[derive(Module, Debug)]
pub struct MultiHeadDiffAttentionV2 {
    /// To the queries of both maps, `d_model → H·2·d`, those of a head side by side.
    pub q_proj: Linear,
    /// To the keys, `d_model → Hk·d`.
    pub k_proj: Linear,
    /// To the values, `d_model → Hk·d`.
    pub v_proj: Linear,
    /// From the heads' outputs, `H·d → d_model`.
    pub o_proj: Linear,
    /// To the logits of λ, `d_model → H`.
    pub lambda_proj: Linear,
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

impl MultiHeadDiffAttentionV2 {
    /// The layer's output for whole sequences: `[B, N, d_model]` to `[B, N, d_model]`.
    ///
    /// # Panics
    /// As [`diff_attention`].
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let table = rotary(self.rotary_base, self.head_dim, 0, &input);
        self.attend(input, table.as_ref(), None)
    }

    /// The output for the tokens that follow those in `cache`, to which they are added.
    ///
    /// # Panics
    /// As [`diff_attention`].
    pub fn forward_cached(&self, input: Tensor<3>, cache: &mut KeyValueCache) -> Tensor<3> {
        let table = rotary(self.rotary_base, self.head_dim, cache.len(), &input);
        self.attend(input, table.as_ref(), Some(cache))
    }

    /// λ of every token of `[B, N, d_model]` and head, `[B, H, N]`.
    pub fn lambda(&self, input: Tensor<3>) -> Tensor<3> {
        sigmoid(widened(self.lambda_proj.forward(input))).swap_dims(1, 2)
    }

    pub(super) fn attend(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [query, key, value] = project(projections, input.clone(), rotary, cache);
        let options = Options {
            mask: mask(self.causal, self.window),
            ..Options::default()
        };
        let output = diff_attention(
            Pairing::Interleaved.split(query, self.n_heads),
            split(key, self.n_kv_heads),
            split(value, self.n_kv_heads),
            self.lambda(input),
            None,
            &options,
        );
        self.o_proj.forward(merge(output))
    }
}
