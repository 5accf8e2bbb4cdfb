//! Forward: output from inputs.

pub(crate) mod kernel;
pub(crate) mod shape;
pub(crate) mod step;
