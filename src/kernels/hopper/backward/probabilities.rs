//! Probabilities from scores, and their gradients, in registers of a product.
//!
//! Statistics in base 2 of a query: log-sum-exp of each map, then δ of each. From the second map's, log2 |λ| is taken off, so
//! that its probabilities come times |λ|; its lowest bit is set where λ is negative.

use cubecl::prelude::*;

use crate::kernels::hopper::ptx::wgmma::Product;
use crate::kernels::warp::fragment::in_lower_row;
use crate::kernels::warp::ptx::{exp2, load2_shared, pack};

/// Bytes of the statistics of a query of two maps.
const QUERY: usize = 16;
/// Bytes between the statistics of a thread's columns in neighbouring eights.
const EIGHT: usize = 8 * QUERY;

/// Scores of both maps to probabilities, the second's times |λ|, where columns are queries. `statistics` is the address of
/// those of the thread's first column. Returns whether some λ is negative.
#[cube]
pub(crate) fn column_probabilities(
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    statistics: u32,
    scale: f32,
    #[comptime] count: usize,
) -> bool {
    let size!(TWO) = 2;
    let mut bits = 0u32.runtime();
    #[unroll]
    for j in 0..comptime!(count / 4) {
        let even = load2_shared::<TWO>(statistics, comptime!(j * EIGHT));
        let odd = load2_shared::<TWO>(statistics, comptime!(j * EIGHT + QUERY));
        bits |= u32::reinterpret(even.extract(1usize)) | u32::reinterpret(odd.extract(1usize));
        #[unroll]
        for e in 0..4usize {
            let i = comptime!(4 * j + e);
            let lse = if comptime!(e % 2 == 1) { odd } else { even };
            first[i] = exp2(fma(first[i], scale, -lse.extract(0usize)));
            second[i] = exp2(fma(second[i], scale, -lse.extract(1usize)));
        }
    }
    bits % 2u32 == 1u32
}

/// Turns the sign of the columns whose λ is negative.
#[cube]
pub(crate) fn negate_columns(values: &mut Array<f32>, statistics: u32, #[comptime] count: usize) {
    let size!(TWO) = 2;
    #[unroll]
    for j in 0..comptime!(count / 4) {
        #[unroll]
        for column in 0..2usize {
            let lse = load2_shared::<TWO>(statistics, comptime!(j * EIGHT + column * QUERY));
            let negative = u32::reinterpret(lse.extract(1usize)) % 2u32 == 1u32;
            #[unroll]
            for row in 0..2usize {
                let i = comptime!(4 * j + 2 * row + column);
                values[i] = select(negative, -values[i], values[i]);
            }
        }
    }
}

/// `dS = P ⊙ (dP − δ)` of both maps in place of P, where columns are queries; the second map's with λ's sign turned.
#[cube]
pub(crate) fn column_gradients(
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    weights: &Array<f32>,
    statistics: u32,
    #[comptime] count: usize,
) {
    let size!(TWO) = 2;
    #[unroll]
    for j in 0..comptime!(count / 4) {
        let even = load2_shared::<TWO>(statistics, comptime!(j * EIGHT + 8));
        let odd = load2_shared::<TWO>(statistics, comptime!(j * EIGHT + QUERY + 8));
        #[unroll]
        for e in 0..4usize {
            let i = comptime!(4 * j + e);
            let delta = if comptime!(e % 2 == 1) { odd } else { even };
            first[i] *= weights[i] - delta.extract(0usize);
            second[i] *= delta.extract(1usize) - weights[i];
        }
    }
}

/// As [`column_probabilities`], of one map.
#[cube]
pub(crate) fn column_probabilities_of_one(
    values: &mut Array<f32>,
    statistics: u32,
    scale: f32,
    #[comptime] count: usize,
) {
    let size!(TWO) = 2;
    #[unroll]
    for j in 0..comptime!(count / 4) {
        let even = load2_shared::<TWO>(statistics, comptime!(j * EIGHT / 2));
        let odd = load2_shared::<TWO>(statistics, comptime!(j * EIGHT / 2 + 8));
        #[unroll]
        for e in 0..4usize {
            let i = comptime!(4 * j + e);
            let lse = if comptime!(e % 2 == 1) { odd } else { even };
            values[i] = exp2(fma(values[i], scale, -lse.extract(0usize)));
        }
    }
}

/// As [`column_gradients`], of one map.
#[cube]
pub(crate) fn column_gradients_of_one(
    values: &mut Array<f32>,
    weights: &Array<f32>,
    statistics: u32,
    #[comptime] count: usize,
) {
    let size!(TWO) = 2;
    #[unroll]
    for j in 0..comptime!(count / 4) {
        let even = load2_shared::<TWO>(statistics, comptime!(j * EIGHT / 2));
        let odd = load2_shared::<TWO>(statistics, comptime!(j * EIGHT / 2 + 8));
        #[unroll]
        for e in 0..4usize {
            let i = comptime!(4 * j + e);
            let delta = if comptime!(e % 2 == 1) { odd } else { even };
            values[i] *= weights[i] - delta.extract(1usize);
        }
    }
}

/// Statistics of a thread's two rows, of one map.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct RowStatistics {
    pub upper_lse: f32,
    pub lower_lse: f32,
    pub upper_delta: f32,
    pub lower_delta: f32,
}

/// Scores to probabilities where rows are queries; the second map's times |λ|.
#[cube]
pub(crate) fn row_probabilities(
    values: &mut Array<f32>,
    rows: &RowStatistics,
    scale: f32,
    #[comptime] count: usize,
) {
    #[unroll]
    for i in 0..count {
        let lse = if comptime!(in_lower_row(i)) {
            rows.lower_lse
        } else {
            rows.upper_lse
        };
        values[i] = exp2(fma(values[i], scale, -lse));
    }
}

/// `dS = P ⊙ (dP − δ)` in place of P, where rows are queries.
#[cube]
pub(crate) fn row_gradients(
    values: &mut Array<f32>,
    weights: &Array<f32>,
    rows: &RowStatistics,
    #[comptime] count: usize,
) {
    #[unroll]
    for i in 0..count {
        let delta = if comptime!(in_lower_row(i)) {
            rows.lower_delta
        } else {
            rows.upper_delta
        };
        values[i] *= weights[i] - delta;
    }
}

/// Rounds what was computed for every map to the left operands of its product, the maps one after the other; more words
/// than that are left unset.
#[cube]
pub(crate) fn pack_maps(
    first: &Array<f32>,
    second: &Array<f32>,
    #[comptime] count: usize,
    #[comptime] product: Product,
) -> Array<u32> {
    let half = comptime!(product.half);
    let mut packed = Array::<u32>::new(comptime!(product.left_vector()));
    #[unroll]
    for i in 0..comptime!(count / 2) {
        let (low, high) = comptime!((2 * i, 2 * i + 1));
        packed[i] = pack(first[low], first[high], half);
        if comptime!(product.maps == 2) {
            packed[comptime!(count / 2 + i)] = pack(second[low], second[high], half);
        }
    }
    packed
}

/// A number that is known no sooner than all probabilities, and not negative: a sum of products of neighbours.
#[cube]
pub(crate) fn witness(first: &Array<f32>, second: &Array<f32>, #[comptime] count: usize) -> f32 {
    let mut sums = Array::<f32>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        sums[i] = first[i] * second[i];
    }
    #[unroll]
    for i in 4..count {
        let sum = comptime!(i % 4);
        sums[sum] = fma(first[i], second[i], sums[sum]);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
