//! The two products of a tile: `scores += A Bᵀ` with a resident A, and `sums += W B` with weights W from the scores.
//! B streams through shared memory in chunks of the head dimension.

use cubecl::prelude::*;

use super::stage::{Axis, Rows, stage_chunk};
use super::tile::{Tile, place, resident_pitch};
use crate::math::F4;
use crate::math::product::{dot4, read_alike};

/// `scores[m] += A_m B_mᵀ` for `maps` maps; where A or B has one map, it serves all of them.
///
/// `scores` is `[maps, rows, cols]` of the unit, its column `j` the tile's column `x + j · units_x`.
#[cube]
pub(crate) fn multiply_transposed<F: Float, N: Size>(
    scores: &mut Array<f32>,
    a: &Shared<[F4]>,
    b: &[Vector<F, N>],
    b_rows: &Rows,
    chunk: &mut Shared<[F4]>,
    #[comptime] a_maps: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    for c in 0..comptime!(tile.chunks(axis.dim4)) {
        let first4 = c * tile.chunk4;
        let width4 = min(tile.chunk4.runtime(), axis.dim4 - first4);
        stage_chunk(b, b_rows, first4, chunk, axis, tile);
        #[unroll]
        for m in 0..comptime!(a_maps.max(axis.maps)) {
            let a_map = comptime!(m.min(a_maps - 1));
            let b_map = comptime!(m.min(axis.maps - 1));
            let a_start = comptime!(a_map * tile.resident_len(axis.dim4)) + first4;
            let pitch = comptime!(resident_pitch(axis.dim4));
            multiply_chunk(scores, a, a_start, width4, &*chunk, m, b_map, pitch, tile);
        }
    }
}

#[cube]
fn multiply_chunk(
    scores: &mut Array<f32>,
    a: &Shared<[F4]>,
    a_start: usize,
    width4: usize,
    chunk: &Shared<[F4]>,
    #[comptime] map: usize,
    #[comptime] b_map: usize,
    #[comptime] a_pitch: usize,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    let pitch = comptime!(tile.chunk_pitch());
    let b_start = comptime!(b_map * tile.chunk_len(1)) + x * pitch;
    let a_first = a_start + y * comptime!(tile.rows * a_pitch);
    for c in 0..width4 {
        let step = comptime!(tile.units_x * pitch).runtime();
        let b = read_alike(chunk, b_start + c, step, tile.cols, tile.plane);
        #[unroll]
        for i in 0..tile.rows {
            let a_row = a[a_first + i * a_pitch + c];
            #[unroll]
            for j in 0..tile.cols {
                let at = comptime!((map * tile.rows + i) * tile.cols + j);
                scores[at] = dot4(scores[at], a_row, b[j]);
            }
        }
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

/// `sums[m] += W_m B` for the `maps` weight tiles from `index` on, all with the same B, map `b_map` of its tensor.
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
    #[unroll]
    for c in 0..comptime!(tile.chunks(axis.dim4)) {
        stage_chunk(
            b,
            b_rows,
            comptime!(c * tile.chunk4).runtime(),
            chunk,
            axis,
            tile,
        );
        for g in 0..comptime!(tile.tile_cols() / 4) {
            let w = read_weights(weights, g, maps, index, tile);
            #[unroll]
            for e in 0..4usize {
                add_row(sums, &w, &*chunk, g, maps, e, c, first, axis, tile);
            }
        }
    }
}

/// Vector `g` of each of the unit's rows of `maps` weight tiles.
#[cube]
fn read_weights(
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

/// Adds one row of B, times the `e`-th weight of each vector, to chunk `c` of the sums.
#[cube]
fn add_row(
    sums: &mut Array<F4>,
    w: &Array<F4>,
    chunk: &Shared<[F4]>,
    g: usize,
    #[comptime] maps: usize,
    #[comptime] e: usize,
    #[comptime] c: usize,
    #[comptime] first: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    let (x, _y) = place(tile);
    let width = comptime!(tile.chunk4 / tile.units_x);
    let owned4 = comptime!(tile.owned4(axis.dim4));
    let column = g % tile.units_x + (g / tile.units_x * 4 + e) * tile.units_x;
    let start = column * comptime!(tile.chunk_pitch()) + x;
    let row = read_alike(chunk, start, tile.units_x.runtime(), width, tile.plane);
    #[unroll]
    for r in 0..comptime!(maps * tile.rows) {
        let weight = F4::new(w[r].extract(e));
        #[unroll]
        for k in 0..width {
            let at = comptime!(first + r * owned4 + c * width + k);
            sums[at] = fma(weight, row[k], sums[at]);
        }
    }
}
