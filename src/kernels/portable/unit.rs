//! What a unit holds of a tile: local arrays, masks on its scores, the rows that it writes.

use cubecl::prelude::*;

use super::operand::Operand;
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

/// How the scores of a tile are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Masking {
    pub rows_are: RowsAre,
    pub maps: usize,
    pub sides: Sides,
}

/// Masks `scores`, `[maps, rows, cols]`, of the tile that begins at a row and a column.
#[cube]
pub(crate) fn mask(
    scores: &mut Array<f32>,
    band: &Band,
    first_row: usize,
    first_column: usize,
    #[comptime] masking: Masking,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    #[unroll]
    for i in 0..tile.rows {
        #[unroll]
        for j in 0..tile.cols {
            let row = (first_row + y * tile.rows + i) as i32;
            let column = (first_column + x + j * tile.units_x) as i32;
            let seen = match comptime!(masking.rows_are) {
                RowsAre::Queries => band.sees(row, column, masking.sides),
                RowsAre::Keys => band.sees(column, row, masking.sides),
            };
            hide(scores, seen, i, j, masking.maps, tile);
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

/// Writes a row of the unit's sums, from vector `first` on and times `factor`, to position `position` of `target`.
#[cube]
pub(crate) fn store_row<F: Float, N: Size>(
    target: &mut [Vector<F, N>],
    operand: &Operand,
    position: usize,
    sums: &Array<F4>,
    factor: f32,
    #[comptime] first: usize,
    #[comptime] tile: Tile,
) {
    let (x, _y) = place(tile);
    let dim4 = comptime!(operand.axis.dim4);
    let start = operand.at(position, 0);
    #[unroll]
    for c in 0..comptime!(tile.owned4(dim4)) {
        let column4 = owned_column4(x, c, tile);
        if column4 < dim4 {
            let at = operand.column(start, column4);
            store4(target, at, sums[comptime!(first + c)] * F4::new(factor));
        }
    }
}
