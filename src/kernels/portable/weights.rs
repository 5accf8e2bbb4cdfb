//! Tiles of weights in shared memory, and their part in the products `sums += W B`.

use cubecl::prelude::*;

use super::tile::{Tile, place};
use crate::math::F4;

/// Which weight tiles meet an operand, and where in the unit's sums their products go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Weights {
    /// First tile.
    pub index: usize,
    /// Number of tiles.
    pub count: usize,
    /// First vector of the sums.
    pub sum: usize,
}

/// One step of a product: which part of the weights' vectors is taken, and which sums it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    /// Rows of all weight tiles.
    pub rows: usize,
    /// Part of the weights' vectors.
    pub part: usize,
    /// Sum of the first row.
    pub sum: usize,
    /// Sums from row to row.
    pub owned4: usize,
}

impl Term {
    /// The term whose sums are `by` further on.
    pub(crate) const fn shifted(self, by: usize) -> Self {
        Self {
            sum: self.sum + by,
            ..self
        }
    }
}

/// Writes the unit's part of weight tile `index`: `[rows, cols]` of `values` from `first` on.
///
/// Four columns of a unit share a vector, so vector `g` holds the tile's columns `g % units_x + (g / units_x · 4 + e) ·
/// units_x`: the products read the rows of B in that order.
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

/// Writes `values`, `[maps, rows, cols]`, to the weight tiles from `index` on.
#[cube]
pub(crate) fn write_maps(
    weights: &mut Shared<[F4]>,
    values: &Array<f32>,
    #[comptime] index: usize,
    #[comptime] maps: usize,
    #[comptime] tile: Tile,
) {
    #[unroll]
    for m in 0..maps {
        write_weights(
            weights,
            values,
            comptime!(index + m),
            comptime!(m * tile.rows * tile.cols),
            tile,
        );
    }
}

/// Vector `g` of each of the unit's rows of the weight tiles.
#[cube]
pub(crate) fn read_weights(
    weights: &Shared<[F4]>,
    g: usize,
    #[comptime] which: Weights,
    #[comptime] tile: Tile,
) -> Array<F4> {
    let (_x, y) = place(tile);
    let mut w = Array::<F4>::new(comptime!(which.count * tile.rows));
    #[unroll]
    for m in 0..which.count {
        let start = comptime!((which.index + m) * tile.weight_len()).runtime();
        #[unroll]
        for i in 0..tile.rows {
            let row = start + (y * tile.rows + i) * comptime!(tile.weight_pitch());
            w[comptime!(m * tile.rows + i)] = weights[row + g];
        }
    }
    w
}

/// Adds `value`, times the term's part of each row's weights, to the sums of the row.
#[cube]
pub(crate) fn add_vector(sums: &mut Array<F4>, w: &Array<F4>, value: F4, #[comptime] term: Term) {
    #[unroll]
    for r in 0..term.rows {
        let sum = comptime!(term.sum + r * term.owned4);
        sums[sum] = fma(F4::new(w[r].extract(term.part)), value, sums[sum]);
    }
}
