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

/// What the rows of a tile are; its columns are the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowsAre {
    Queries,
    Keys,
}

/// Masks `scores`, `[maps, rows, cols]`.
#[cube]
pub(crate) fn mask(
    scores: &mut Array<f32>,
    band: &Band,
    first_row: usize,
    first_column: usize,
    #[comptime] rows_are: RowsAre,
    #[comptime] maps: usize,
    #[comptime] sides: Sides,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    #[unroll]
    for i in 0..tile.rows {
        #[unroll]
        for j in 0..tile.cols {
            let row = (first_row + y * tile.rows + i) as i32;
            let column = (first_column + x + j * tile.units_x) as i32;
            let seen = match comptime!(rows_are) {
                RowsAre::Queries => band.sees(row, column, sides),
                RowsAre::Keys => band.sees(column, row, sides),
            };
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
