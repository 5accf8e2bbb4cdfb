//! Multi-head differential attention, second version: keys and values as in standard attention, twice the queries.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::attention::diff_attention;
use super::cache::KeyValueCache;
use super::composed::widened;
use super::heads::{Heads, Pairing, split};
use super::layer::{Layer, attention_config, public_forward};
use crate::attention::Options;

attention_config! {
    /// Configuration of a [`MultiHeadDiffAttentionV2`].
    MultiHeadDiffAttentionV2Config {
        /// Differential query heads H, as many as a standard Transformer has heads; there are 2H queries.
        n_heads,
        /// Dimension d of a query, a key and a value, a multiple of 8; by default `d_model / H`.
        head_dim = |config| config.d_model / config.n_heads,
    }
}

impl MultiHeadDiffAttentionV2Config {
    /// A layer with random parameters.
    pub fn init(&self, device: &Device) -> MultiHeadDiffAttentionV2 {
        let heads = self.heads();
        let [width, kv_width] =
            [heads.n_heads, heads.n_kv_heads].map(|count| count * heads.head_dim);
        MultiHeadDiffAttentionV2 {
            q_proj: self.projection(self.d_model, 2 * width, device),
            k_proj: self.projection(self.d_model, kv_width, device),
            v_proj: self.projection(self.d_model, kv_width, device),
            o_proj: self.projection(width, self.d_model, device),
            lambda_proj: self.projection(self.d_model, heads.n_heads, device),
            heads,
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
/// let output = layer.forward(tokens);
/// assert_eq!(output.dims(), [1, 6, 64]);
/// println!("{output}");
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
    /// The heads.
    #[module(skip)]
    pub heads: Heads,
}

public_forward!(MultiHeadDiffAttentionV2);

impl MultiHeadDiffAttentionV2 {
    /// λ of every token of `[B, N, d_model]` and head, `[B, H, N]`.
    pub fn lambda(&self, input: Tensor<3>) -> Tensor<3> {
        sigmoid(widened(self.lambda_proj.forward(input))).swap_dims(1, 2)
    }
}

impl Layer for MultiHeadDiffAttentionV2 {
    fn heads(&self) -> &Heads {
        &self.heads
    }

    fn heads_mut(&mut self) -> &mut Heads {
        &mut self.heads
    }

    fn projections(&self) -> [&Linear; 4] {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
    }

    fn attention(&self, input: Tensor<3>, [query, key, value]: [Tensor<3>; 3]) -> Tensor<4> {
        let options = Options::default().with_mask(self.heads.mask());
        diff_attention(
            Pairing::Interleaved.split(query, self.heads.n_heads),
            split(key, self.heads.n_kv_heads),
            split(value, self.heads.n_kv_heads),
            self.lambda(input),
            None,
            &options,
        )
    }
}
