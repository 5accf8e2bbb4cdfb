//! Single precision.

use super::registers::Word;
use super::round::{F32, add_to_odd};
use crate::ir::{Flavour, Float1, Float2, Rounding};

/// Every NaN that arithmetic makes.
pub const NAN: f32 = f32::from_bits(0x7fff_ffff);

pub fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0f32.copysign(x)
    } else {
        x
    }
}

#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { NAN } else { x }
}

fn finish(flavour: Flavour, x: f32) -> f32 {
    let x = if flavour.ftz { flush(x) } else { x };
    match flavour.sat {
        true if x > 0.0 => x.min(1.0),
        true => 0.0,
        false => canonical(x),
    }
}

fn round(x: f64, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => x as f32,
        directed => F32.round(x, directed) as f32,
    }
}

pub fn binary(op: Float2, flavour: Flavour, a: f32, b: f32) -> f32 {
    let [a, b] = [a, b].map(|x| if flavour.ftz { flush(x) } else { x });
    let (x, y) = (a as f64, b as f64);
    finish(
        flavour,
        match op {
            Float2::Add => round(add_to_odd(x, y), flavour.rounding),
            Float2::Sub => round(add_to_odd(x, -y), flavour.rounding),
            Float2::Mul => round(x * y, flavour.rounding),
            Float2::Div => a / b,
            Float2::Min | Float2::Max if flavour.nan && (a.is_nan() || b.is_nan()) => NAN,
            Float2::Min => min(a, b),
            Float2::Max => max(a, b),
        },
    )
}

/// −0 is less than +0; a NaN loses against a number.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    let b_wins = b < a || a.is_nan() || a == b && b.is_sign_negative();
    canonical(if b_wins { b } else { a })
}

#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    let b_wins = b > a || a.is_nan() || a == b && a.is_sign_negative();
    canonical(if b_wins { b } else { a })
}

pub fn fma(flavour: Flavour, a: f32, b: f32, c: f32) -> f32 {
    let [a, b, c] = [a, b, c].map(|x| if flavour.ftz { flush(x) } else { x });
    let sum = add_to_odd(a as f64 * b as f64, c as f64);
    finish(flavour, round(sum, flavour.rounding))
}

/// `a * b + c` in every lane, rounded once and to nearest.
pub fn fused(s: [Word; 3]) -> Word {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has both.
        return unsafe { fused_in_hardware(s) };
    }
    fuse(s)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma,avx2")]
fn fused_in_hardware(s: [Word; 3]) -> Word {
    fuse(s)
}

/// Inlined into its callers, whose instructions it may use.
#[inline(always)]
fn fuse([a, b, c]: [Word; 3]) -> Word {
    let mut d = [0; 32];
    for l in 0..32 {
        let [a, b, c] = [a[l], b[l], c[l]].map(f32::from_bits);
        d[l] = canonical(a.mul_add(b, c)).to_bits();
    }
    d
}

pub fn unary(op: Float1, flavour: Flavour, a: f32) -> f32 {
    let a = if flavour.ftz { flush(a) } else { a };
    finish(
        flavour,
        match op {
            Float1::Neg => return f32::from_bits(a.to_bits() ^ 1 << 31),
            Float1::Abs => return a.abs(),
            Float1::Ex2 => a.exp2(),
            Float1::Lg2 => a.log2(),
            Float1::Rcp => 1.0 / a,
            Float1::Rsqrt => (1.0 / (a as f64).sqrt()) as f32,
            Float1::Sqrt => a.sqrt(),
            Float1::Tanh => (a as f64).tanh() as f32,
        },
    )
}
