//! Multi-head differential attention of the Differential Transformer (arXiv 2410.05258).

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Tensor};

use super::attention::diff_attention;
use super::cache::KeyValueCache;
use super::composed::widened;
use super::heads::{Pairing, Projector, default_initializer, mask, merge, project};
use super::rotary::{RotaryTable, rotary};
use crate::attention::Options;
use crate::lambda::lambda_init;
use crate::problem::Norm;

/// Configuration of a [`MultiHeadDiffAttention`].
#[derive(Config, Debug)]
pub struct MultiHeadDiffAttentionConfig {
    /// Features of a token.
    pub d_model: usize,
    /// Differential query heads H. A standard Transformer of the same width has twice as many.
    pub n_heads: usize,
    /// Layer, counted from 0: it sets [λ_init](crate::lambda::lambda_init).
    #[config(default = 0)]
    pub layer: usize,
    /// Differential key and value heads, a divisor of H; by default H.
    pub n_kv_heads: Option<usize>,
    /// Dimension d of a query and a key, a multiple of 8; by default `d_model / 2H`. A value has 2d.
    pub head_dim: Option<usize>,
    /// Whether a token sees only those before it and itself.
    #[config(default = true)]
    pub causal: bool,
    /// How many tokens before itself (and after itself, if not causal) a token sees; by default all.
    pub window: Option<usize>,
    /// Base of the rotary position embedding, 10000 in the paper; by default there is none.
    pub rotary_base: Option<f64>,
    /// Which projected heads form a pair.
    #[config(default = "Pairing::Interleaved")]
    pub pairing: Pairing,
    /// Whether the norm of a head's output has a learned weight.
    #[config(default = true)]
    pub norm_weight: bool,
    /// Added to the mean square in the norm of a head's output.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Standard deviation that the vectors of λ start with.
    #[config(default = 0.1)]
    pub lambda_std: f64,
    /// Whether projections have a bias.
    #[config(default = false)]
    pub bias: bool,
    /// What projections start from.
    #[config(default = "default_initializer()")]
    pub initializer: Initializer,
}

impl MultiHeadDiffAttentionConfig {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadDiffAttention {
        let kv_heads = self.n_kv_heads.unwrap_or(self.n_heads);
        let dim = self.head_dim.unwrap_or(self.d_model / (2 * self.n_heads));
        let projector = Projector {
            initializer: &self.initializer,
            bias: self.bias,
            device,
        };
        let [width, kv_width] = [self.n_heads, kv_heads].map(|heads| heads * 2 * dim);
        let std = self.lambda_std;
        let vector = || Initializer::Normal { mean: 0.0, std }.init([dim], device);
        MultiHeadDiffAttention {
            q_proj: projector.init(self.d_model, width),
            k_proj: projector.init(self.d_model, kv_width),
            v_proj: projector.init(self.d_model, kv_width),
            o_proj: projector.init(width, self.d_model),
            lambda_q1: vector(),
            lambda_k1: vector(),
            lambda_q2: vector(),
            lambda_k2: vector(),
            gamma: self
                .norm_weight
                .then(|| Initializer::Ones.init([2 * dim], device)),
            n_heads: self.n_heads,
            n_kv_heads: kv_heads,
            head_dim: dim,
            lambda_init: lambda_init(self.layer),
            norm_epsilon: self.norm_epsilon,
            causal: self.causal,
            window: self.window,
            rotary_base: self.rotary_base,
            pairing: self.pairing,
        }
    }
}

/// Multi-head differential attention: projections, λ from four vectors, a norm of every head's output.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use diff_flash_attn::burn::{KeyValueCache, MultiHeadDiffAttentionConfig};
///
/// let device = Device::default();
/// let layer = MultiHeadDiffAttentionConfig::new(64, 2).with_rotary_base(Some(10000.0)).init(&device);
/// let tokens = Tensor::<3>::random([1, 6, 64], Distribution::Default, &device);
/// let all_at_once = layer.forward(tokens.clone());
///
/// let mut cache = KeyValueCache::new();
/// layer.forward_cached(tokens.clone().narrow(1, 0, 5), &mut cache);
/// let last = layer.forward_cached(tokens.narrow(1, 5, 1), &mut cache);
/// assert!(last.all_close(all_at_once.narrow(1, 5, 1), Some(1e-4), Some(1e-5)));
/// ```
#[derive(Module, Debug)]
pub struct MultiHeadDiffAttention {
    /// To the queries of both maps, `d_model → H·2·d`.
    pub q_proj: Linear,
    /// To the keys of both maps, `d_model → Hk·2·d`.
    pub k_proj: Linear,
    /// To the values, `d_model → Hk·2d`.
    pub v_proj: Linear,
    /// From the heads' outputs, `H·2d → d_model`.
    pub o_proj: Linear,
    /// λ_q1, `[d]`.
    pub lambda_q1: Param<Tensor<1>>,
    /// λ_k1, `[d]`.
    pub lambda_k1: Param<Tensor<1>>,
    /// λ_q2, `[d]`.
    pub lambda_q2: Param<Tensor<1>>,
    /// λ_k2, `[d]`.
    pub lambda_k2: Param<Tensor<1>>,
    /// Weight of the norm, `[2d]`, shared by the heads.
    pub gamma: Option<Param<Tensor<1>>>,
    /// Query heads H.
    pub n_heads: usize,
    /// Key and value heads Hk.
    pub n_kv_heads: usize,
    /// Dimension d of a query and a key.
    pub head_dim: usize,
    /// λ_init.
    pub lambda_init: f32,
    /// Added to the mean square in the norm.
    pub norm_epsilon: f64,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
    /// How far a token sees.
    #[module(skip)]
    pub window: Option<usize>,
    /// Base of the rotary position embedding.
    #[module(skip)]
    pub rotary_base: Option<f64>,
    /// Which projected heads form a pair.
    #[module(skip)]
    pub pairing: Pairing,
}

impl MultiHeadDiffAttention {
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

    /// λ, `[1]`: `exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init`.
    pub fn lambda(&self) -> Tensor<1> {
        let exp_dot = |query: &Param<Tensor<1>>, key: &Param<Tensor<1>>| {
            let [query, key] = [query, key].map(|vector| widened(vector.val()));
            (query * key).sum().exp()
        };
        let signal = exp_dot(&self.lambda_q1, &self.lambda_k1);
        signal - exp_dot(&self.lambda_q2, &self.lambda_k2) + self.lambda_init
    }

    pub(super) fn attend(
        &self,
        input: Tensor<3>,
        rotary: Option<&RotaryTable>,
        cache: Option<&mut KeyValueCache>,
    ) -> Tensor<3> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [query, key, value] = project(projections, input, rotary, cache);
        let output = diff_attention(
            self.pairing.split(query, self.n_heads),
            self.pairing.split(key, self.n_kv_heads),
            self.pairing.split(value, self.n_kv_heads),
            self.lambda(),
            self.gamma.as_ref().map(Param::val),
            &self.options(),
        );
        self.o_proj.forward(merge(output))
    }

    fn options(&self) -> Options {
        let norm = Norm {
            eps: self.norm_epsilon as f32,
            lambda_init: self.lambda_init,
        };
        Options {
            mask: mask(self.causal, self.window),
            norm: Some(norm),
            ..Options::default()
        }
    }
}
