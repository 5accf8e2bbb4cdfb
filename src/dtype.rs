//! Storage types.

use cubecl::prelude::*;
use half::{bf16, f16};

/// Storage type of a tensor. Arithmetic is in `f32` whatever the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The type as CubeCL names it.
    pub(crate) fn elem(self) -> ElemType {
        match self {
            DType::F32 => f32::elem_type_native(),
            DType::F16 => f16::elem_type_native(),
            DType::BF16 => bf16::elem_type_native(),
        }
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
        })
    }
}
