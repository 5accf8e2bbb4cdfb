//! Products whose operand B comes straight from global memory, each plane sharing its reads by broadcasts.
//!
//! A unit owns whole rows, so all units of a plane need the same values of B: each reads every `plane`-th and broadcasts
//! it. Rows past the end read the last row: the edge of the mask gives them no weight.

use cubecl::prelude::*;

use super::product::{add_vector, read_weights};
use super::stage::{Axis, Rows, column_at};
use super::tile::{Tile, place, resident_pitch};
use crate::math::F4;
use crate::math::layout::load4;
use crate::math::product::dot4;

/// See [`multiply_transposed`](super::product::multiply_transposed).
#[cube]
pub(crate) fn multiply_transposed<F: Float, N: Size>(
    scores: &mut Array<f32>,
    a: &Shared<[F4]>,
    b: &[Vector<F, N>],
    b_rows: &Rows,
    b_factor: f32,
    #[comptime] a_maps: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    let (_x, y) = place(tile);
    let pitch = comptime!(resident_pitch(axis.dim4));
    for c in 0..axis.dim4 {
        #[unroll]
        for m in 0..comptime!(a_maps.max(axis.maps)) {
            let a_start = comptime!(m.min(a_maps - 1) * tile.resident_len(axis.dim4));
            let mut a_rows = Array::<F4>::new(tile.rows);
            #[unroll]
            for i in 0..tile.rows {
                a_rows[i] = a[a_start + (y * tile.rows + i) * pitch + c];
            }
            let b_map = comptime!(m.min(axis.maps - 1)).runtime();
            #[unroll]
            for group in 0..comptime!(tile.cols.div_ceil(tile.plane)) {
                let left = comptime!((tile.cols - group * tile.plane).min(tile.plane));
                let lane = min(UNIT_POS_PLANE as usize, left - 1);
                let position = min(b_rows.first + group * tile.plane + lane, b_rows.end - 1);
                let at = column_at(b_rows.at(position, b_map), c, b_rows.pair, axis);
                let mine = load4(b, at) * F4::new(b_factor);
                #[unroll]
                for j in 0..left {
                    let value = plane_broadcast(mine, comptime!(j as u32));
                    #[unroll]
                    for i in 0..tile.rows {
                        let score =
                            comptime!((m * tile.rows + i) * tile.cols + group * tile.plane + j);
                        scores[score] = dot4(scores[score], a_rows[i], value);
                    }
                }
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
    #[comptime] maps: usize,
    #[comptime] index: usize,
    #[comptime] first: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    for g in 0..comptime!(tile.tile_cols() / 4) {
        let w = read_weights(weights, g, maps, index, tile);
        #[unroll]
        for e in 0..4usize {
            let position = min(b_rows.first + g * 4 + e, b_rows.end - 1);
            let row = b_rows.at(position, 0);
            #[unroll]
            for group in 0..comptime!(axis.dim4.div_ceil(tile.plane)) {
                let left = comptime!((axis.dim4 - group * tile.plane).min(tile.plane));
                let lane = min(UNIT_POS_PLANE as usize, left - 1);
                let at = column_at(row, group * tile.plane + lane, b_rows.pair, axis);
                let mine = load4(b, at);
                #[unroll]
                for k in 0..left {
                    let value = plane_broadcast(mine, comptime!(k as u32));
                    let sum = comptime!(first + group * tile.plane + k);
                    add_vector(sums, &w, value, maps, e, sum, axis.dim4, tile);
                }
            }
        }
    }
}
