//! Atomic and bulk reductions.

use crate::alu::{double, float, half_float, integer};
use crate::ir::{Flavour, Float2, Int2, Reduction, Rounding};
use crate::ty::Ty;

const FLAVOUR: Flavour = Flavour {
    ftz: false,
    sat: false,
    relu: false,
    nan: false,
    rounding: Rounding::Nearest,
};

/// `old (op) v` on raw bits of a type.
pub fn reduce(op: Reduction, ty: Ty, old: u64, v: u64) -> u64 {
    if ty.float() {
        return float(op, ty, old, v);
    }
    let (old, v) = (old & ty.mask(), v & ty.mask());
    let op = match op {
        Reduction::Add => Int2::Add,
        Reduction::Min => Int2::Min,
        Reduction::Max => Int2::Max,
        Reduction::And => Int2::And,
        Reduction::Or => Int2::Or,
        Reduction::Xor => Int2::Xor,
        Reduction::Inc if old >= v => return 0,
        Reduction::Inc => return old + 1,
        Reduction::Dec if old == 0 || old > v => return v,
        Reduction::Dec => return old - 1,
    };
    integer::binary(op, ty, old, v)
}

fn float(op: Reduction, ty: Ty, old: u64, v: u64) -> u64 {
    let op = match op {
        Reduction::Min => Float2::Min,
        Reduction::Max => Float2::Max,
        _ => Float2::Add,
    };
    match ty {
        Ty::F32 => {
            let (old, v) = (f32::from_bits(old as u32), f32::from_bits(v as u32));
            float::binary(op, FLAVOUR, old, v).to_bits() as u64
        }
        Ty::F64 => double::binary(op, f64::from_bits(old), f64::from_bits(v)).to_bits(),
        ty => half_float::binary(op, ty, FLAVOUR, old as u32, v as u32) as u64,
    }
}
