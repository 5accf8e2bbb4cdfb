//! tf32: single precision of which 10 bits of the mantissa count.

use crate::ir::{ToTf32, TowardTf32};

/// Every NaN that a conversion makes.
const NAN: u32 = 0x7fff_ffff;

const INFINITY: u32 = 0x7f80_0000;

/// The greatest finite number.
const MAX: u32 = INFINITY - UNIT;

/// The last bit that counts.
const UNIT: u32 = 1 << 13;

/// What a tensor core takes an operand for: it ignores the other bits.
pub fn operand(x: u32) -> f32 {
    f32::from_bits(x & !(UNIT - 1))
}

/// `cvt` from single precision.
pub fn convert(how: &ToTf32, x: u32) -> u32 {
    let (sign, magnitude) = (x & 1 << 31, x & !(1 << 31));
    if magnitude > INFINITY {
        return NAN;
    }
    if how.relu && sign != 0 {
        return 0;
    }
    // A carry goes into the exponent, where it belongs.
    let up = match how.rounding {
        TowardTf32::NearestAway => UNIT / 2,
        TowardTf32::NearestEven => UNIT / 2 - 1 + magnitude / UNIT % 2,
        TowardTf32::Zero => 0,
    };
    let rounded = (magnitude + up) & !(UNIT - 1);
    sign | if how.satfinite {
        rounded.min(MAX)
    } else {
        rounded
    }
}
