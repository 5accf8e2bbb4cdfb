//! Differential attention for [Burn]: an operation with gradients, attention modules, a decoder.
//!
//! [`diff_attention`] is the operation, on every backend: on the devices of CubeCL the fused kernels of this crate, with
//! and without Burn's fusion, autodiff and gradient checkpointing; elsewhere [`composed`] of Burn's own operations.
//!
//! - [`MultiHeadDiffAttention`] and [`MultiHeadDiffAttentionV2`] are the published layers, with a [`KeyValueCache`] for
//!   generation; [`MultiHeadStandardAttention`] is what to compare them with.
//! - [`DiffTransformer`] is a decoder made of them, and [`hugging_face`] loads DiffLlama checkpoints into it.
//!
//! Burn's backends are chosen by Burn's features. Those of this crate turn on Burn's of the same name, except `cuda`: for
//! CUDA ask both for it.
//!
//! [Burn]: https://burn.dev

mod attention;
mod autodiff;
mod cache;
mod check;
pub mod composed;
mod cube;
mod fused;
mod heads;
pub mod hugging_face;
mod layer;
mod ops;
mod plans;
mod rotary;
mod standard;
mod transformer;
mod v1;
mod v2;

pub use attention::{attention, diff_attention};
pub use cache::KeyValueCache;
pub use heads::{Heads, Pairing};
pub use ops::{AttentionGradients, AttentionOps, AttentionSaved, AttentionTrainingOps, Maybe};
pub use standard::{MultiHeadStandardAttention, MultiHeadStandardAttentionConfig};
pub use transformer::{
    AttentionKind, DecoderCache, DecoderLayer, DiffTransformer, DiffTransformerConfig,
    SelfAttention, SwiGluMlp,
};
pub use v1::{MultiHeadDiffAttention, MultiHeadDiffAttentionConfig};
pub use v2::{MultiHeadDiffAttentionV2, MultiHeadDiffAttentionV2Config};
