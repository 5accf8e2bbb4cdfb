//! `cvt`.

use super::half_float;
use super::round::{BF16, F16, F32, to_integer};
use super::{float, half_float as half};
use crate::ir::{Conversion, Rounding};
use crate::ty::Ty;

/// The bits of the result of one conversion.
pub fn convert(c: &Conversion, from: Ty, to: Ty, raw: u64) -> u64 {
    match (from.float(), to.float()) {
        (true, true) => float_to_float(c, to, value(c, from, raw)),
        (true, false) => float_to_integer(c, from, to, value(c, from, raw)),
        (false, true) => integer_to_float(c, to, from.extend(raw)),
        (false, false) => integer_to_integer(c, to, from.extend(raw)),
    }
}

fn value(c: &Conversion, from: Ty, raw: u64) -> f64 {
    let single = f32::from_bits(raw as u32);
    match from {
        Ty::F32 if c.ftz => float::flush(single) as f64,
        Ty::F32 => single as f64,
        Ty::F64 => f64::from_bits(raw),
        _ => half::decode(from, raw as u16),
    }
}

fn integer_to_integer(c: &Conversion, to: Ty, x: i128) -> u64 {
    (if c.sat { clamp(to, x) } else { x }) as u64 & to.mask()
}

/// The result is the nearest that fits; 0 for a NaN, but the top bit from or to 64 bits.
fn float_to_integer(c: &Conversion, from: Ty, to: Ty, x: f64) -> u64 {
    if x.is_nan() {
        let wide = from == Ty::F64 || to.bits() == 64;
        return if wide { 1 << (to.bits() - 1) } else { 0 };
    }
    let x = to_integer(x, c.rounding.unwrap_or(Rounding::Zero));
    clamp(to, x as i128) as u64 & to.mask()
}

fn clamp(to: Ty, x: i128) -> i128 {
    match to.signed() {
        true => x.clamp(-(1 << (to.bits() - 1)), (1 << (to.bits() - 1)) - 1),
        false => x.clamp(0, to.mask() as i128),
    }
}

fn integer_to_float(c: &Conversion, to: Ty, x: i128) -> u64 {
    let rounding = c.rounding.unwrap_or(Rounding::Nearest);
    if to == Ty::F32 && rounding == Rounding::Nearest {
        return (x as f32).to_bits() as u64;
    }
    if to == Ty::F64 {
        return (x as f64).to_bits();
    }
    encode(to, to_odd(x), rounding)
}

/// The f64 nearest to an integer of 64 bits; where it is inexact, one with an odd last bit, which rounds again as the
/// integer would have.
fn to_odd(x: i128) -> f64 {
    let magnitude = x.unsigned_abs() as u64;
    let dropped = 11u32.saturating_sub(magnitude.leading_zeros());
    let lost = magnitude & ((1 << dropped) - 1) != 0;
    let kept = (magnitude >> dropped | lost as u64) as f64 * 2f64.powi(dropped as i32);
    if x < 0 { -kept } else { kept }
}

fn float_to_float(c: &Conversion, to: Ty, x: f64) -> u64 {
    let rounding = c.rounding.unwrap_or(Rounding::Nearest);
    let mut x = if c.to_integer {
        to_integer(x, rounding).copysign(x)
    } else {
        x
    };
    if c.sat {
        x = if x > 0.0 { x.min(1.0) } else { 0.0 };
    }
    if c.relu && x <= 0.0 {
        x = 0.0;
    }
    if c.satfinite {
        let max = if to.bf16() { BF16.max() } else { F16.max() };
        x = x.clamp(-max, max);
    }
    let rounding = if c.to_integer {
        Rounding::Nearest
    } else {
        rounding
    };
    let bits = encode(to, x, rounding);
    if c.ftz && to == Ty::F32 {
        return float::flush(f32::from_bits(bits as u32)).to_bits() as u64;
    }
    bits
}

fn encode(to: Ty, x: f64, rounding: Rounding) -> u64 {
    match to {
        Ty::F32 if x.is_nan() => float::NAN.to_bits() as u64,
        Ty::F32 if rounding == Rounding::Nearest => (x as f32).to_bits() as u64,
        Ty::F32 => (F32.round(x, rounding) as f32).to_bits() as u64,
        Ty::F64 => x.to_bits(),
        _ => half_float::encode(to, x, rounding) as u64,
    }
}

/// f32 to bf16, to the nearest: what kernels do most.
pub fn bf16_nearest(x: u32) -> u32 {
    if x & 0x7fff_ffff > 0x7f80_0000 {
        return half_float::NAN as u32;
    }
    (x + 0x7fff + (x >> 16 & 1)) >> 16
}
