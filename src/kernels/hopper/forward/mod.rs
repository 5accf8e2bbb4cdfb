//! The forward kernel.

pub(crate) mod epilogue;
pub(crate) mod kernel;
mod producer;
pub(crate) mod shape;
mod tiles;
mod work;
