//! Gradient of query: tiles of keys and values stream by the queries that stay.

pub(crate) mod kernel;
mod producer;
pub(crate) mod shape;
mod tiles;
mod work;
