//! Dot products in registers.

use cubecl::prelude::*;

use super::F4;

/// `dot + a · b`.
#[cube]
pub(crate) fn dot4(dot: f32, a: F4, b: F4) -> f32 {
    let mut sum = dot;
    #[unroll]
    for e in 0..4usize {
        sum = fma(a.extract(e), b.extract(e), sum);
    }
    sum
}
