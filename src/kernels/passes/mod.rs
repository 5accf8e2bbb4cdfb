//! Kernels of no family: every family's results go through them.

pub(crate) mod lambda;
mod settings;
pub(crate) mod statistics;
pub(crate) mod sum;
