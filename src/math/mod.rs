//! What the kernels compute, apart from which cube computes it: dot products, softmax, mask, norm, reductions over the
//! units of a row, and how elements travel between memory and registers.

pub(crate) mod dot;
pub(crate) mod layout;
pub(crate) mod mask;
pub(crate) mod norm;
pub(crate) mod reduce;
pub(crate) mod softmax;

use cubecl::prelude::*;

/// Four neighbouring columns in `f32`, the unit of every shared-memory access.
pub(crate) type F4 = Vector<f32, Const<4>>;
