//! The forward kernel.

mod epilogue;
pub(crate) mod kernel;
pub(crate) mod shape;
pub(crate) mod step;
