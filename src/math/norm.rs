//! Sums of squares and RMS normalisation of rows.

use cubecl::prelude::*;

use super::F4;

/// Sum of the squares of each of `rows` rows of `width` vectors.
#[cube]
pub(crate) fn sum_squares(
    values: &Array<F4>,
    #[comptime] rows: usize,
    #[comptime] width: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(rows);
    #[unroll]
    for i in 0..rows {
        let mut sum = F4::new(0.0);
        #[unroll]
        for c in 0..width {
            let value = values[comptime!(i * width + c)];
            sum += value * value;
        }
        out[i] = sum4(sum);
    }
    out
}

/// Sum of the four parts of a vector.
#[cube]
pub(crate) fn sum4(v: F4) -> f32 {
    (v.extract(0usize) + v.extract(1usize)) + (v.extract(2usize) + v.extract(3usize))
}

/// `1 / sqrt(mean_square + eps)`, and 0 for a row of zeros with no eps: it stays zero.
#[cube]
pub(crate) fn inverse_rms(mean_square: f32, eps: f32) -> f32 {
    let square = mean_square + eps;
    select(
        square > 0.0,
        1.0 / square.max(f32::MIN_POSITIVE.runtime()).sqrt(),
        0.0f32.runtime(),
    )
}
