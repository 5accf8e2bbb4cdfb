//! Double precision, rounded to nearest. The bits of a NaN that arithmetic makes are those of the machine.

use crate::ir::{Float1, Float2};

pub fn unary(op: Float1, a: f64) -> f64 {
    match op {
        Float1::Neg => -a,
        Float1::Abs => a.abs(),
        Float1::Rcp => 1.0 / a,
        Float1::Sqrt => a.sqrt(),
        Float1::Ex2 | Float1::Lg2 | Float1::Rsqrt | Float1::Tanh => {
            unreachable!("{op:?} is not decoded in double precision")
        }
    }
}

pub fn binary(op: Float2, a: f64, b: f64) -> f64 {
    match op {
        Float2::Add => a + b,
        Float2::Sub => a - b,
        Float2::Mul => a * b,
        Float2::Div => a / b,
        Float2::Min => min(a, b),
        Float2::Max => -min(-a, -b),
    }
}

/// −0 is less than +0; a NaN loses against a number.
fn min(a: f64, b: f64) -> f64 {
    let b_wins = b < a || a.is_nan() || a == b && b.is_sign_negative();
    if b_wins { b } else { a }
}
