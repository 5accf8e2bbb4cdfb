//! The heads of a layer: how many, which tokens they see, and how projected features are split into them, as views.

use burn::config::Config;
use burn::tensor::{FloatDType, Tensor};

use super::check::must;
use super::fused::check_type;
use super::rotary::RotaryTable;
use crate::problem::Mask;

/// A layer's heads, and which tokens they see.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Query heads H.
    pub n_heads: usize,
    /// Key and value heads Hk.
    pub n_kv_heads: usize,
    /// Dimension d of a query and a key.
    pub head_dim: usize,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
    /// How many tokens before itself (and after itself, if not causal) a token sees; all without it.
    pub window: Option<usize>,
    /// Base of the rotary position embedding.
    pub rotary_base: Option<f64>,
    /// What queries, keys and values are rounded to for the attention.
    pub attention_dtype: Option<FloatDType>,
}

impl Heads {
    /// What a token sees.
    pub(super) fn mask(&self) -> Mask {
        match (self.causal, self.window) {
            (false, None) => Mask::None,
            (true, None) => Mask::Causal,
            (causal, Some(left)) => Mask::Window {
                left: Some(left),
                right: Some(if causal { 0 } else { left }),
            },
        }
    }

    /// A query, key or value as the attention reads it.
    pub(super) fn stored(&self, projected: Tensor<3>) -> Tensor<3> {
        match self.attention_dtype {
            None => projected,
            Some(dtype) => {
                must(check_type(&projected.device(), dtype));
                projected.cast(dtype)
            }
        }
    }

    /// Angles of the tokens of `input`, which follow `start` others, if positions are embedded.
    pub(super) fn rotary(&self, start: usize, input: &Tensor<3>) -> Option<RotaryTable> {
        let len = input.dims()[1];
        self.rotary_base
            .map(|base| RotaryTable::new(base, self.head_dim, start, len, &input.device()))
    }
}

/// Which two of the projected heads are the maps of one differential head.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Heads 2i and 2i + 1: the paper's authors, Phi-4-mini-flash, Motif.
    Interleaved,
    /// Heads i and i + H: Hugging Face DiffLlama.
    Halves,
}

impl Pairing {
    /// `[B, N, 2·heads·d]` as `[B, heads, 2, N, d]`.
    pub(super) fn split(self, projected: Tensor<3>, heads: usize) -> Tensor<5> {
        let [batch, len, width] = projected.dims();
        let dim = width / (2 * heads);
        match self {
            Pairing::Interleaved => projected
                .reshape([batch, len, heads, 2, dim])
                .permute([0, 2, 3, 1, 4]),
            Pairing::Halves => projected
                .reshape([batch, len, 2, heads, dim])
                .permute([0, 3, 2, 1, 4]),
        }
    }
}

/// `[B, N, heads·d]` as `[B, heads, N, d]`.
pub(super) fn split(projected: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, len, width] = projected.dims();
    projected
        .reshape([batch, len, heads, width / heads])
        .swap_dims(1, 2)
}

/// `[B, heads, N, dv]` as `[B, N, heads·dv]`.
pub(super) fn merge(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, len, dim] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, len, count * dim])
}
