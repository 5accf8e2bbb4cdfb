//! What the kernels compute, apart from when and where: products of register tiles, softmax, mask, norm, reductions.

pub(crate) mod layout;
pub(crate) mod mask;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod reduce;
pub(crate) mod softmax;

use cubecl::prelude::*;

/// Four neighbouring columns in `f32`, the unit of every shared-memory access.
pub(crate) type F4 = Vector<f32, Const<4>>;
