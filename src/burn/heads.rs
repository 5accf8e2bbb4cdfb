//! From projected features to heads and back, as views; what the attention modules have in common.

use burn::config::Config;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::cache::KeyValueCache;
use super::rotary::RotaryTable;
use crate::problem::Mask;

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

/// Queries of the tokens in `input`; keys and values of these and of those in the cache. `[B, N, width]` each.
pub(super) fn project(
    [query, key, value]: [&Linear; 3],
    input: Tensor<3>,
    rotary: Option<&RotaryTable>,
    cache: Option<&mut KeyValueCache>,
) -> [Tensor<3>; 3] {
    let turned = |projection: &Linear| {
        let projected = projection.forward(input.clone());
        match rotary {
            None => projected,
            Some(table) => table.apply(projected),
        }
    };
    let (query, key) = (turned(query), turned(key));
    let value = value.forward(input);
    match cache {
        None => [query, key, value],
        Some(cache) => {
            let [key, value] = cache.append(key, value);
            [query, key, value]
        }
    }
}

/// The mask of a layer: causal or not, a window of keys before the query (and after it, if not causal) or all.
pub(super) fn mask(causal: bool, window: Option<usize>) -> Mask {
    match (causal, window) {
        (false, None) => Mask::None,
        (true, None) => Mask::Causal,
        (causal, Some(left)) => Mask::Window {
            left: Some(left),
            right: Some(if causal { 0 } else { left }),
        },
    }
}

/// Makes the projections of a layer alike.
pub(super) struct Projector<'a> {
    pub initializer: &'a Initializer,
    pub bias: bool,
    pub device: &'a Device,
}

impl Projector<'_> {
    pub(super) fn init(&self, from: usize, to: usize) -> Linear {
        LinearConfig::new(from, to)
            .with_bias(self.bias)
            .with_initializer(self.initializer.clone())
            .init(self.device)
    }
}

/// What projections start from unless a configuration says otherwise: uniform within `1/√fan_in`.
pub(super) fn default_initializer() -> Initializer {
    Initializer::KaimingUniform {
        gain: 1.0 / 3.0_f64.sqrt(),
        fan_out_only: false,
    }
}
