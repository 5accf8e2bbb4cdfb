//! Backward, first pass: the gradient through the norm, and the statistics of every query row.

pub(crate) mod kernel;
pub(crate) mod shape;
