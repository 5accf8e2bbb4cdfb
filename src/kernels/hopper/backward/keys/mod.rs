//! Gradients of key and value: tiles of queries stream by the keys that stay.

pub(crate) mod kernel;
mod producer;
pub(crate) mod shape;
mod tiles;
mod work;
