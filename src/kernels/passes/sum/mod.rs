//! Sums over some axes of an `f32` array.

pub(crate) mod kernel;
