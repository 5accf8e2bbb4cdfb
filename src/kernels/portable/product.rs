//! The two products of a tile: `scores += A Bᵀ` with a resident A, and `sums += W B` with weights W from the scores.
//!
//! B streams. Either its chunks pass through shared memory, or, where the units of a plane share their reads, it comes
//! straight from global memory: no unit then needs another's data, and nothing waits.

use cubecl::prelude::*;

use super::direct;
use super::stage::{Axis, Rows};
use super::staged;
use super::tile::{Tile, place};
use crate::math::F4;

/// `scores[m] += A_m (b_factor · B_m)ᵀ` for every map; where A or B has one map, it serves all of them.
///
/// `scores` is `[maps, rows, cols]` of the unit, its column `j` the tile's column `x + j · units_x`.
#[cube]
pub(crate) fn multiply_transposed<F: Float, N: Size>(
    scores: &mut Array<f32>,
    a: &Shared<[F4]>,
    b: &[Vector<F, N>],
    b_rows: &Rows,
    b_factor: f32,
    chunk: &mut Shared<[F4]>,
    #[comptime] a_maps: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    if comptime!(tile.plane == 0) {
        staged::multiply_transposed(scores, a, b, b_rows, b_factor, chunk, a_maps, axis, tile);
    } else {
        direct::multiply_transposed(scores, a, b, b_rows, b_factor, a_maps, axis, tile);
    }
}

/// `sums[m] += W_m B` for the `maps` weight tiles from `index` on, all with the same B.
///
/// `sums` is `[maps, rows, owned4]` of the unit, from vector `first` on.
#[cube]
pub(crate) fn accumulate<F: Float, N: Size>(
    sums: &mut Array<F4>,
    weights: &Shared<[F4]>,
    b: &[Vector<F, N>],
    b_rows: &Rows,
    chunk: &mut Shared<[F4]>,
    #[comptime] maps: usize,
    #[comptime] index: usize,
    #[comptime] first: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    if comptime!(tile.plane == 0) {
        staged::accumulate(
            sums, weights, b, b_rows, chunk, maps, index, first, axis, tile,
        );
    } else {
        direct::accumulate(sums, weights, b, b_rows, maps, index, first, axis, tile);
    }
}

/// Writes the unit's part of weight tile `index`: `[rows, cols]` of `values` from `first` on.
///
/// Four columns of a unit share a vector, so vector `g` holds the tile's columns `g % units_x + (g / units_x · 4 + e) ·
/// units_x`: [`accumulate`] reads the rows of B in that order.
#[cube]
pub(crate) fn write_weights(
    weights: &mut Shared<[F4]>,
    values: &Array<f32>,
    #[comptime] index: usize,
    #[comptime] first: usize,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    #[unroll]
    for i in 0..tile.rows {
        #[unroll]
        for j4 in 0..comptime!(tile.cols / 4) {
            let mut packed = F4::new(0.0);
            #[unroll]
            for e in 0..4usize {
                packed.insert(e, values[comptime!(first + i * tile.cols + j4 * 4 + e)]);
            }
            let row = comptime!(index * tile.weight_len())
                + (y * tile.rows + i) * comptime!(tile.weight_pitch());
            weights[row + comptime!(j4 * tile.units_x) + x] = packed;
        }
    }
}

/// Vector `g` of each of the unit's rows of `maps` weight tiles.
#[cube]
pub(crate) fn read_weights(
    weights: &Shared<[F4]>,
    g: usize,
    #[comptime] maps: usize,
    #[comptime] index: usize,
    #[comptime] tile: Tile,
) -> Array<F4> {
    let (_x, y) = place(tile);
    let mut w = Array::<F4>::new(comptime!(maps * tile.rows));
    #[unroll]
    for m in 0..maps {
        let start = comptime!((index + m) * tile.weight_len()).runtime();
        #[unroll]
        for i in 0..tile.rows {
            let row = start + (y * tile.rows + i) * comptime!(tile.weight_pitch());
            w[comptime!(m * tile.rows + i)] = weights[row + g];
        }
    }
    w
}

/// `sums[at + r · owned4] += value · w[r][e]` for each row of each map.
#[cube]
pub(crate) fn add_vector(
    sums: &mut Array<F4>,
    w: &Array<F4>,
    value: F4,
    #[comptime] maps: usize,
    #[comptime] e: usize,
    #[comptime] at: usize,
    #[comptime] owned4: usize,
    #[comptime] tile: Tile,
) {
    #[unroll]
    for r in 0..comptime!(maps * tile.rows) {
        let sum = comptime!(at + r * owned4);
        sums[sum] = fma(F4::new(w[r].extract(e)), value, sums[sum]);
    }
}
