//! Multi-head differential attention of the Differential Transformer (arXiv 2410.05258).

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Tensor};

use super::attention::diff_attention;
use super::cache::KeyValueCache;
use super::composed::widened;
use super::heads::{Heads, Pairing};
use super::layer::{Layer, attention_config, public_forward};
use crate::attention::Options;
use crate::lambda::lambda_init;
use crate::problem::Norm;

attention_config! {
    /// Configuration of a [`MultiHeadDiffAttention`].
    MultiHeadDiffAttentionConfig {
        /// Differential query heads H. A standard Transformer of the same width has twice as many.
        n_heads,
        /// Dimension d of a query and a key, a multiple of 8; by default `d_model / 2H`. A value has 2d.
        head_dim = |config| config.d_model / (2 * config.n_heads),
        /// Layer, counted from 0: it sets [λ_init](crate::lambda::lambda_init).
        #[config(default = 0)]
        pub layer: usize,
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
    }
}

impl MultiHeadDiffAttentionConfig {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadDiffAttention {
        let heads = self.heads();
        let value_dim = 2 * heads.head_dim;
        let [width, kv_width] = [heads.n_heads, heads.n_kv_heads].map(|count| count * value_dim);
        let std = self.lambda_std;
        let vector = || Initializer::Normal { mean: 0.0, std }.init([heads.head_dim], device);
        let weight = || Initializer::Ones.init([value_dim], device);
        MultiHeadDiffAttention {
            q_proj: self.projection(self.d_model, width, device),
            k_proj: self.projection(self.d_model, kv_width, device),
            v_proj: self.projection(self.d_model, kv_width, device),
            o_proj: self.projection(width, self.d_model, device),
            lambda_q1: vector(),
            lambda_k1: vector(),
            lambda_q2: vector(),
            lambda_k2: vector(),
            gamma: self.norm_weight.then(weight),
            lambda_init: lambda_init(self.layer),
            norm_epsilon: self.norm_epsilon,
            pairing: self.pairing,
            heads,
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
    /// λ_init.
    pub lambda_init: f32,
    /// Added to the mean square in the norm.
    pub norm_epsilon: f64,
    /// Which projected heads form a pair.
    #[module(skip)]
    pub pairing: Pairing,
    /// The heads.
    #[module(skip)]
    pub heads: Heads,
}

public_forward!(MultiHeadDiffAttention);

impl MultiHeadDiffAttention {
    /// λ, `[1]`: `exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init`.
    pub fn lambda(&self) -> Tensor<1> {
        let exp_dot = |query: &Param<Tensor<1>>, key: &Param<Tensor<1>>| {
            let [query, key] = [query, key].map(|vector| widened(vector.val()));
            (query * key).sum().exp()
        };
        let signal = exp_dot(&self.lambda_q1, &self.lambda_k1);
        signal - exp_dot(&self.lambda_q2, &self.lambda_k2) + self.lambda_init
    }

    fn options(&self) -> Options {
        let norm = Norm {
            eps: self.norm_epsilon as f32,
            lambda_init: self.lambda_init,
        };
        Options::default()
            .with_mask(self.heads.mask())
            .with_norm(Some(norm))
    }
}

impl Layer for MultiHeadDiffAttention {
    fn heads(&self) -> &Heads {
        &self.heads
    }

    fn heads_mut(&mut self) -> &mut Heads {
        &mut self.heads
    }

    fn projections(&self) -> [&Linear; 4] {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
    }

    fn attention(&self, _: Tensor<3>, [query, key, value]: [Tensor<3>; 3]) -> Tensor<4> {
        diff_attention(
            self.pairing.split(query, self.heads.n_heads),
            self.pairing.split(key, self.heads.n_kv_heads),
            self.pairing.split(value, self.heads.n_kv_heads),
            self.lambda(),
            self.gamma.as_ref().map(Param::val),
            &self.options(),
        )
    }
}
