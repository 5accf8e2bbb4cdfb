//! A unit's own rows: local arrays, masks on its scores, its outputs.

use cubecl::prelude::*;

use super::stage::{Axis, column_at};
use super::tile::{Tile, owned_column4, place};
use crate::math::F4;
use crate::math::layout::store4;
use crate::math::mask::{Band, Sides};
use crate::math::softmax::MASKED;

/// A local array of `n` copies of `value`.
#[cube]
pub(crate) fn filled(value: f32, #[comptime] n: usize) -> Array<f32> {
    let mut out = Array::<f32>::new(n);
    #[unroll]
    for i in 0..n {
        out[i] = value;
    }
    out
}

/// A local array of `n` zero vectors.
#[cube]
pub(crate) fn zeros(#[comptime] n: usize) -> Array<F4> {
    let mut out = Array::<F4>::new(n);
    #[unroll]
    for i in 0..n {
        out[i] = F4::new(0.0);
    }
    out
}

/// Masks `scores`, `[maps, rows, cols]`, of a tile whose rows are queries and whose columns are keys.
#[cube]
pub(crate) fn mask_keys(
    scores: &mut Array<f32>,
    band: &Band,
    first_row: usize,
    first_column: usize,
    #[comptime] maps: usize,
    #[comptime] sides: Sides,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    #[unroll]
    for i in 0..tile.rows {
        #[unroll]
        for j in 0..tile.cols {
            let query = first_row + y * tile.rows + i;
            let key = first_column + x + j * tile.units_x;
            let seen = band.sees(query as i32, key as i32, sides);
            hide(scores, seen, i, j, maps, tile);
        }
    }
}

/// Masks `scores`, `[maps, rows, cols]`, of a tile whose rows are keys and whose columns are queries.
#[cube]
pub(crate) fn mask_queries(
    scores: &mut Array<f32>,
    band: &Band,
    first_row: usize,
    first_column: usize,
    #[comptime] maps: usize,
    #[comptime] sides: Sides,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    #[unroll]
    for i in 0..tile.rows {
        #[unroll]
        for j in 0..tile.cols {
            let key = first_row + y * tile.rows + i;
            let query = first_column + x + j * tile.units_x;
            let seen = band.sees(query as i32, key as i32, sides);
            hide(scores, seen, i, j, maps, tile);
        }
    }
}

#[cube]
fn hide(
    scores: &mut Array<f32>,
    seen: bool,
    #[comptime] row: usize,
    #[comptime] column: usize,
    #[comptime] maps: usize,
    #[comptime] tile: Tile,
) {
    #[unroll]
    for m in 0..maps {
        let at = comptime!((m * tile.rows + row) * tile.cols + column);
        scores[at] = select(seen, scores[at], MASKED.runtime());
    }
}

/// Writes a row of the unit's sums, from vector `first` on, to the row of `target` that begins at `start`.
#[cube]
pub(crate) fn store_row<F: Float, N: Size>(
    target: &mut [Vector<F, N>],
    start: usize,
    pair: usize,
    sums: &Array<F4>,
    factor: f32,
    #[comptime] first: usize,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    let (x, _y) = place(tile);
    #[unroll]
    for c in 0..comptime!(tile.owned4(axis.dim4)) {
        let column4 = owned_column4(x, c, tile);
        if column4 < axis.dim4 {
            let at = column_at(start, column4, pair, axis);
            store4(target, at, sums[comptime!(first + c)] * F4::new(factor));
        }
    }
}
