//! f16 and bf16, single and in pairs.

use super::float;
use super::round::{self, add_to_odd};
use crate::ir::{Flavour, Float1, Float2, Rounding};
use crate::ty::Ty;
use half::{bf16, f16};

/// Every NaN that arithmetic makes, in both formats.
pub const NAN: u16 = 0x7fff;

pub fn decode(ty: Ty, bits: u16) -> f64 {
    match ty.bf16() {
        true => bf16::from_bits(bits).to_f64(),
        false => f16::from_bits(bits).to_f64(),
    }
}

pub fn encode(ty: Ty, x: f64, rounding: Rounding) -> u16 {
    if x.is_nan() {
        return NAN;
    }
    // What was rounded to the format converts without rounding.
    match ty.bf16() {
        true => bf16::from_f64(round::BF16.round(x, rounding)).to_bits(),
        false => f16::from_f64(round::F16.round(x, rounding)).to_bits(),
    }
}

fn nearest(ty: Ty, x: f64) -> u16 {
    encode(ty, x, Rounding::Nearest)
}

/// Both halves of a pair, or the one of a single number.
fn each<const N: usize>(ty: Ty, s: [u32; N], f: impl Fn([u16; N]) -> u16) -> u32 {
    let low = f(s.map(|x| x as u16)) as u32;
    if ty.pair() {
        low | (f(s.map(|x| (x >> 16) as u16)) as u32) << 16
    } else {
        low
    }
}

pub fn unary(op: Float1, ty: Ty, flavour: Flavour, a: u32) -> u32 {
    each(ty, [a], |[a]| match op {
        Float1::Neg => a ^ 0x8000,
        Float1::Abs => a & 0x7fff,
        op => nearest(ty, float::unary(op, flavour, decode(ty, a) as f32) as f64),
    })
}

pub fn binary(op: Float2, ty: Ty, flavour: Flavour, a: u32, b: u32) -> u32 {
    each(ty, [a, b], |[a, b]| {
        let (x, y) = (decode(ty, a), decode(ty, b));
        let sum = match op {
            Float2::Add => add_to_odd(x, y),
            Float2::Sub => add_to_odd(x, -y),
            Float2::Mul => x * y,
            _ => float::binary(op, flavour, x as f32, y as f32) as f64,
        };
        nearest(ty, if flavour.sat { saturate(sum) } else { sum })
    })
}

fn saturate(x: f64) -> f64 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

pub fn fma(ty: Ty, flavour: Flavour, a: u32, b: u32, c: u32) -> u32 {
    each(ty, [a, b, c], |s| {
        let [x, y, z] = s.map(|x| decode(ty, x));
        let sum = add_to_odd(x * y, z);
        let sum = match flavour {
            Flavour { sat: true, .. } => saturate(sum),
            Flavour { relu: true, .. } if sum < 0.0 => 0.0,
            _ => sum,
        };
        nearest(ty, sum)
    })
}
