//! Products whose operand B comes straight from global memory, each plane sharing its reads by broadcasts.
//!
//! A unit owns whole rows, so all units of a plane need the same values of B: each reads every `plane`-th and broadcasts
//! it. Rows past the end read the last row: the edge of the mask gives them no weight.

use cubecl::prelude::*;

use super::operand::Operand;
use super::stage::Resident;
use super::tile::{Tile, place, resident_pitch};
use super::weights::{Term, Weights, add_vector, read_weights};
use crate::math::F4;
use crate::math::dot::dot4;
use crate::math::layout::load4;

/// See [`multiply_transposed`](super::product::multiply_transposed).
#[cube]
pub(crate) fn multiply_transposed<F: Float, N: Size>(
    scores: &mut Array<f32>,
    a: &Resident,
    b: &[Vector<F, N>],
    operand: &Operand,
    factor: f32,
    #[comptime] tile: Tile,
) {
    let (axis, a_maps) = comptime!((operand.axis, a.axis.maps));
    for c in 0..axis.dim4 {
        #[unroll]
        for m in 0..comptime!(a_maps.max(axis.maps)) {
            let a_column = resident_column(a, c, comptime!(m.min(a_maps - 1)), tile);
            let b_map = comptime!(m.min(axis.maps - 1)).runtime();
            #[unroll]
            for group in 0..comptime!(tile.cols.div_ceil(tile.plane)) {
                let left = comptime!((tile.cols - group * tile.plane).min(tile.plane));
                let lane = min(UNIT_POS_PLANE as usize, left - 1);
                let position = min(operand.first + group * tile.plane + lane, operand.end - 1);
                let at = operand.column(operand.at(position, b_map), c);
                let mine = load4(b, at) * F4::new(factor);
                #[unroll]
                for j in 0..left {
                    let value = plane_broadcast(mine, comptime!(j as u32));
                    #[unroll]
                    for i in 0..tile.rows {
                        let score =
                            comptime!((m * tile.rows + i) * tile.cols + group * tile.plane + j);
                        scores[score] = dot4(scores[score], a_column[i], value);
                    }
                }
            }
        }
    }
}

/// Vector `c` of each of the unit's rows of map `map`.
#[cube]
fn resident_column(
    a: &Resident,
    c: usize,
    #[comptime] map: usize,
    #[comptime] tile: Tile,
) -> Array<F4> {
    let (_x, y) = place(tile);
    let dim4 = comptime!(a.axis.dim4);
    let start = comptime!(map * tile.resident_len(dim4));
    let pitch = comptime!(resident_pitch(dim4));
    let mut out = Array::<F4>::new(tile.rows);
    #[unroll]
    for i in 0..tile.rows {
        out[i] = a.vectors[start + (y * tile.rows + i) * pitch + c];
    }
    out
}

/// See [`accumulate`](super::product::accumulate).
#[cube]
pub(crate) fn accumulate<F: Float, N: Size>(
    sums: &mut Array<F4>,
    weights: &Shared<[F4]>,
    b: &[Vector<F, N>],
    operand: &Operand,
    #[comptime] which: Weights,
    #[comptime] tile: Tile,
) {
    let dim4 = comptime!(operand.axis.dim4);
    for g in 0..comptime!(tile.tile_cols() / 4) {
        let w = read_weights(weights, g, which, tile);
        #[unroll]
        for e in 0..4usize {
            let position = min(operand.first + g * 4 + e, operand.end - 1);
            let row = operand.at(position, 0);
            let term = comptime!(Term {
                rows: which.count * tile.rows,
                part: e,
                sum: which.sum,
                owned4: dim4,
            });
            #[unroll]
            for group in 0..comptime!(dim4.div_ceil(tile.plane)) {
                let left = comptime!((dim4 - group * tile.plane).min(tile.plane));
                let lane = min(UNIT_POS_PLANE as usize, left - 1);
                let at = operand.column(row, group * tile.plane + lane);
                let mine = load4(b, at);
                #[unroll]
                for k in 0..left {
                    let value = plane_broadcast(mine, comptime!(k as u32));
                    add_vector(
                        sums,
                        &w,
                        value,
                        comptime!(term.shifted(group * tile.plane + k)),
                    );
                }
            }
        }
    }
}
