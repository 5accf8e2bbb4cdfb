//! λ from its four vectors, and their gradients.

pub(crate) mod kernel;
