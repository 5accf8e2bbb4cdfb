//! The forward kernel.

pub(crate) mod epilogue;
pub(crate) mod kernel;
mod producer;
pub(crate) mod shape;
pub(crate) mod step;
mod tiles;
mod work;
