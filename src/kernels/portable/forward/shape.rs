//! What is compiled into the forward kernel.

use crate::kernels::portable::tile::Tile;
use crate::math::mask::Sides;
use crate::math::softmax::SoftmaxShape;
use crate::problem::Problem;

/// Everything about a forward launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForwardShape {
    pub tile: Tile,
    pub head_dim4: usize,
    pub value_dim4: usize,
    pub maps: usize,
    pub key_maps: usize,
    pub sides: Sides,
    pub norm: bool,
    pub gamma: bool,
    /// Write O and O_2 before the norm.
    pub save_outputs: bool,
    /// Write the log-sum-exp of every map.
    pub save_lse: bool,
}

impl ForwardShape {
    /// For a problem, with nothing saved and no weight of the norm.
    pub(crate) fn of(problem: &Problem, tile: Tile) -> Self {
        Self {
            tile,
            head_dim4: problem.head_dim / 4,
            value_dim4: problem.value_dim / 4,
            maps: problem.maps,
            key_maps: problem.key_maps(),
            sides: problem.band().0,
            norm: problem.norm.is_some(),
            gamma: false,
            save_outputs: false,
            save_lse: false,
        }
    }

    /// Vectors of a row's output that a unit accumulates.
    pub(super) const fn owned4(&self) -> usize {
        self.tile.owned4(self.value_dim4)
    }

    pub(super) const fn softmax(&self) -> SoftmaxShape {
        SoftmaxShape {
            rows: self.maps * self.tile.rows,
            cols: self.tile.cols,
            width: self.tile.units_x,
            exchange: self.tile.exchange,
        }
    }

    /// Loop iterations of a unit for one tile of keys.
    pub(crate) const fn tile_loops(&self) -> usize {
        let tile = &self.tile;
        1 + tile.product_loops(self.head_dim4, self.maps) + tile.accumulate_loops(self.value_dim4)
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        let tile = &self.tile;
        let vectors = self.maps * tile.resident_len(self.head_dim4)
            + tile.chunk_len(self.key_maps)
            + self.maps * tile.weight_len();
        16 * vectors + 4 * tile.scratch_len(self.maps * tile.rows)
    }
}
