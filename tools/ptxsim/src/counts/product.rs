//! Matrix products by shape.

use core::fmt;

use crate::ir::{Mma, Number, Wgmma, WgmmaA, Wmma};
use crate::ty::Ty;

/// The instruction of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of a warpgroup, both operands in shared memory.
    Wgmma,
    /// Of a warpgroup, the left operand in registers.
    WgmmaRegisters,
    /// `mma.sync`.
    Mma,
    /// `wmma.mma.sync`.
    Wmma,
}

/// A shape of product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Product {
    /// The instruction.
    pub kind: Kind,
    /// Rows, columns and depth.
    pub shape: [usize; 3],
    /// Type of the operands, as PTX names it.
    pub element: &'static str,
    /// Whether sums are f16.
    pub half_sums: bool,
}

impl Product {
    /// Multiply-adds.
    pub fn multiply_adds(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    pub(crate) fn wgmma(s: &Wgmma) -> Self {
        Self {
            kind: match s.a {
                WgmmaA::Registers(_) => Kind::WgmmaRegisters,
                WgmmaA::Descriptor(_) => Kind::Wgmma,
            },
            shape: [64, s.n, 16],
            element: if s.ty == Ty::BF16 { "bf16" } else { "f16" },
            half_sums: s.half_d,
        }
    }

    pub(crate) fn mma(s: &Mma) -> Self {
        Self {
            kind: Kind::Mma,
            shape: [16, 8, s.k],
            element: element(s.number),
            half_sums: s.half_d,
        }
    }

    pub(crate) fn wmma(s: &Wmma) -> Self {
        Self {
            kind: Kind::Wmma,
            shape: [s.d.rows, s.d.columns, s.a.columns],
            element: element(s.a.number),
            half_sums: s.d.number == Number::F16,
        }
    }
}

/// Bytes of shared memory that a product of a warpgroup reads: B, which all four warps share, and A unless it is in
/// registers.
pub(crate) fn bytes_read(s: &Wgmma) -> u64 {
    let left = match s.a {
        WgmmaA::Registers(_) => 0,
        WgmmaA::Descriptor(_) => 64 * 16 * 2,
    };
    left + s.n as u64 * 16 * 2
}

fn element(number: Number) -> &'static str {
    match number {
        Number::F16 => "f16",
        Number::BF16 => "bf16",
        Number::TF32 => "tf32",
        Number::F32 => "f32",
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([m, n, k], element) = (self.shape, self.element);
        let (name, from) = match self.kind {
            Kind::Wgmma => ("wgmma", ""),
            Kind::WgmmaRegisters => ("wgmma", " A in registers"),
            Kind::Mma => ("mma", ""),
            Kind::Wmma => ("wmma", ""),
        };
        let sums = if self.half_sums { " f16 sums" } else { "" };
        write!(f, "{name} {m}x{n}x{k} {element}{sums}{from}")
    }
}
