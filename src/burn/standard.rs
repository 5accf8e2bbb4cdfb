//! Multi-head standard attention from the same kernels, to compare with.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use super::attention::attention;
use super::cache::KeyValueCache;
use super::heads::{Heads, split};
use super::layer::{Layer, attention_config, public_forward};
use crate::attention::Options;

attention_config! {
    /// Configuration of a [`MultiHeadStandardAttention`].
    MultiHeadStandardAttentionConfig {
        /// Query heads.
        n_heads,
        /// Dimension of a query, a key and a value, a multiple of 8; by default `d_model / n_heads`.
        head_dim = |config| config.d_model / config.n_heads,
    }
}

impl MultiHeadStandardAttentionConfig {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadStandardAttention {
        let heads = self.heads();
        let [width, kv_width] =
            [heads.n_heads, heads.n_kv_heads].map(|count| count * heads.head_dim);
        MultiHeadStandardAttention {
            q_proj: self.projection(self.d_model, width, device),
            k_proj: self.projection(self.d_model, kv_width, device),
            v_proj: self.projection(self.d_model, kv_width, device),
            o_proj: self.projection(width, self.d_model, device),
            heads,
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
/// let output = layer.forward(tokens);
/// assert_eq!(output.dims(), [1, 6, 64]);
/// println!("{output}");
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
    /// The heads.
    #[module(skip)]
    pub heads: Heads,
}

public_forward!(MultiHeadStandardAttention);

impl Layer for MultiHeadStandardAttention {
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
        let options = Options::default().with_mask(self.heads.mask());
        attention(
            split(query, self.heads.n_heads),
            split(key, self.heads.n_kv_heads),
            split(value, self.heads.n_kv_heads),
            &options,
        )
    }
}
