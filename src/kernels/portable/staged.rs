//! Products whose operand B passes through shared memory in chunks of the head dimension.

use cubecl::prelude::*;

use super::product::{add_vector, read_weights};
use super::stage::{Axis, Rows, stage_chunk};
use super::tile::{Tile, place, resident_pitch};
use crate::math::F4;
use crate::math::product::dot4;

/// See [`multiply_transposed`](super::product::multiply_transposed).
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
    for c in 0..comptime!(tile.chunks(axis.dim4)) {
        let first4 = c * tile.chunk4;
        let width4 = min(tile.chunk4.runtime(), axis.dim4 - first4);
        stage_chunk(b, b_rows, first4, b_factor, chunk, axis, tile);
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
        let mut b = Array::<F4>::new(tile.cols);
        #[unroll]
        for j in 0..tile.cols {
            b[j] = chunk[b_start + c + comptime!(j * tile.units_x * pitch)];
        }
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

/// See [`accumulate`](super::product::accumulate).
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
            1.0,
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
    #[unroll]
    for k in 0..width {
        let value = chunk[start + comptime!(k * tile.units_x)];
        add_vector(
            sums,
            w,
            value,
            maps,
            e,
            comptime!(first + c * width + k),
            owned4,
            tile,
        );
    }
}
