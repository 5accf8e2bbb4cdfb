//! Rounding to the float formats, in every direction.

use crate::ir::Rounding;

/// A binary float format narrower than f64.
pub struct Format {
    /// Bits of the mantissa without the implicit one.
    mantissa: i32,
    /// Exponent of the smallest normal number.
    min_exponent: i32,
    max_exponent: i32,
}

pub const F32: Format = Format {
    mantissa: 23,
    min_exponent: -126,
    max_exponent: 127,
};
pub const F16: Format = Format {
    mantissa: 10,
    min_exponent: -14,
    max_exponent: 15,
};
pub const BF16: Format = Format {
    mantissa: 7,
    min_exponent: -126,
    max_exponent: 127,
};

impl Format {
    pub fn max(&self) -> f64 {
        (2.0 - 2f64.powi(-self.mantissa)) * 2f64.powi(self.max_exponent)
    }

    /// The value of the format that `x` rounds to.
    pub fn round(&self, x: f64, rounding: Rounding) -> f64 {
        if !x.is_finite() || x == 0.0 {
            return x;
        }
        let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(self.min_exponent);
        let unit = 2f64.powi(exponent - self.mantissa);
        let y = to_integer(x / unit, rounding).copysign(x) * unit;
        if y.abs() <= self.max() {
            return y;
        }
        let toward_zero = match rounding {
            Rounding::Nearest => false,
            Rounding::Zero => true,
            Rounding::Down => x > 0.0,
            Rounding::Up => x < 0.0,
        };
        if toward_zero {
            self.max()
        } else {
            f64::INFINITY
        }
        .copysign(x)
    }
}

pub fn to_integer(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// `a + b`, where an inexact sum has an odd last bit: to round it again gives what rounding the exact sum would have.
pub fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let bb = sum - a;
    let error = (a - (sum - bb)) + (b - bb);
    if error == 0.0 || !error.is_finite() || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        sum
    } else if (error > 0.0) == (sum > 0.0) {
        f64::from_bits(sum.to_bits() + 1)
    } else {
        f64::from_bits(sum.to_bits() - 1)
    }
}
