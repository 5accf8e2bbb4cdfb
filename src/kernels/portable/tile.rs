//! The tile that one cube works on: who owns which rows and columns, and the shared memory of its operands.
//!
//! A cube is `units_y × units_x` units. Unit (y, x) owns the rows `y · rows ..` of the tile and, of its columns,
//! every `units_x`-th from `x` on. A tile is `tile_rows × tile_cols`: queries by keys, or in the pass for the gradients
//! of key and value, keys by queries.

use cubecl::prelude::*;

use crate::math::reduce::Exchange;

/// Comptime shape of a cube's tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// Rows of one unit.
    pub rows: usize,
    /// Columns of one unit, a multiple of 4.
    pub cols: usize,
    pub units_y: usize,
    pub units_x: usize,
    /// Columns of the head dimension staged at once, in vectors of 4; a multiple of `units_x`.
    pub chunk4: usize,
    /// Size of the planes that share reads of global memory, 0 for none. Needs `units_x = 1` and `chunk4 = 1`.
    pub plane: usize,
    /// How the units of a row exchange values.
    pub exchange: Exchange,
}

impl Tile {
    /// Whether streamed operands pass through shared memory.
    pub(crate) const fn is_staged(&self) -> bool {
        self.plane == 0
    }

    pub(crate) const fn tile_rows(&self) -> usize {
        self.rows * self.units_y
    }

    pub(crate) const fn tile_cols(&self) -> usize {
        self.cols * self.units_x
    }

    pub(crate) const fn units(&self) -> usize {
        self.units_x * self.units_y
    }

    /// Chunks that cover `dim4` vectors.
    pub(crate) const fn chunks(&self, dim4: usize) -> usize {
        dim4.div_ceil(self.chunk4)
    }

    /// Vectors from row to row of a staged chunk: odd, so that the rows that a plane reads together lie in different
    /// banks.
    pub(crate) const fn chunk_pitch(&self) -> usize {
        self.chunk4 | 1
    }

    /// Vectors from row to row of a weight tile.
    pub(crate) const fn weight_pitch(&self) -> usize {
        (self.tile_cols() / 4) | 1
    }

    /// Vectors of one weight tile.
    pub(crate) const fn weight_len(&self) -> usize {
        self.tile_rows() * self.weight_pitch()
    }

    /// Vectors of `maps` staged chunks; a token one where operands come straight from global memory. No row follows the
    /// last of a chunk.
    pub(crate) const fn chunk_len(&self, maps: usize) -> usize {
        if self.is_staged() {
            maps * ((self.tile_cols() - 1) * self.chunk_pitch() + self.chunk4)
        } else {
            1
        }
    }

    /// Vectors of a resident operand of `dim4` columns. No row follows the last.
    pub(crate) const fn resident_len(&self, dim4: usize) -> usize {
        (self.tile_rows() - 1) * resident_pitch(dim4) + dim4
    }

    /// Output vectors of `dim4` columns that one unit accumulates for one row.
    pub(crate) const fn owned4(&self, dim4: usize) -> usize {
        self.chunks(dim4) * self.chunk4 / self.units_x
    }

    /// Loop iterations of a unit for bringing one chunk of `maps` maps.
    const fn stage_loops(&self, maps: usize) -> usize {
        maps * (self.tile_cols() * self.chunk4).div_ceil(self.units())
    }

    /// Loop iterations of a unit for one product `A Bᵀ` over `dim4` columns of `maps` maps.
    pub(crate) const fn product_loops(&self, dim4: usize, maps: usize) -> usize {
        if self.is_staged() {
            self.chunks(dim4) * (1 + self.stage_loops(maps) + self.chunk4 * maps)
        } else {
            dim4
        }
    }

    /// Loop iterations of a unit for one product `W B` with `dim4` columns of B.
    pub(crate) const fn accumulate_loops(&self, dim4: usize) -> usize {
        if self.is_staged() {
            self.chunks(dim4) * (self.stage_loops(1) + self.tile_cols() / 4)
        } else {
            self.tile_cols() / 4
        }
    }

    /// Scratch values for reducing `n` values of each unit.
    pub(crate) const fn scratch_len(&self, n: usize) -> usize {
        match self.exchange {
            Exchange::Shared => self.units() * n,
            _ => 1,
        }
    }
}

/// Vectors from row to row of a resident operand, odd as in [`Tile::chunk_pitch`].
pub(crate) const fn resident_pitch(dim4: usize) -> usize {
    dim4 | 1
}

/// This unit's place in the tile: (x, y).
#[cube]
pub(crate) fn place(#[comptime] tile: Tile) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    (unit % tile.units_x, unit / tile.units_x)
}

/// The head-dimension vector that slot `slot` of unit column `x` accumulates.
#[cube]
pub(crate) fn owned_column4(x: usize, #[comptime] slot: usize, #[comptime] tile: Tile) -> usize {
    x + slot * tile.units_x
}
