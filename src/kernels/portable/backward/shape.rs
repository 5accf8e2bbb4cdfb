//! What is compiled into the kernels of the gradients of query, key and value.

use crate::kernels::passes::statistics::planes::Planes;
use crate::kernels::portable::operand::Axis;
use crate::kernels::portable::tile::Tile;
use crate::kernels::portable::unit::{Masking, RowsAre};
use crate::math::mask::Sides;
use crate::problem::Problem;

/// Everything about a launch of a gradient pass that is compiled into its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GradientShape {
    pub tile: Tile,
    pub head_dim4: usize,
    pub value_dim4: usize,
    pub maps: usize,
    pub key_maps: usize,
    pub sides: Sides,
}

impl GradientShape {
    /// For a problem.
    pub(crate) fn of(problem: &Problem, tile: Tile) -> Self {
        Self {
            tile,
            head_dim4: problem.head_dim / 4,
            value_dim4: problem.value_dim / 4,
            maps: problem.maps,
            key_maps: problem.key_maps(),
            sides: problem.band().0,
        }
    }

    pub(super) const fn planes(&self) -> Planes {
        Planes { maps: self.maps }
    }

    pub(super) const fn query_axis(&self) -> Axis {
        Axis::maps(self.head_dim4, self.maps)
    }

    pub(super) const fn key_axis(&self) -> Axis {
        Axis::maps(self.head_dim4, self.key_maps)
    }

    /// Of the value: two halves.
    pub(super) const fn value_axis(&self) -> Axis {
        Axis::halves(self.value_dim4)
    }

    /// Of the output's gradient: one piece.
    pub(super) const fn grad_axis(&self) -> Axis {
        Axis::whole(self.value_dim4)
    }

    pub(super) const fn masking(&self, rows_are: RowsAre) -> Masking {
        Masking {
            rows_are,
            maps: self.maps,
            sides: self.sides,
        }
    }

    /// Loop iterations of a unit for the scores and dP of one tile, and for summing the gradients of `maps` heads.
    pub(crate) const fn tile_loops(&self) -> usize {
        let tile = &self.tile;
        1 + tile.product_loops(self.head_dim4, self.maps)
            + tile.product_loops(self.value_dim4, 1)
            + self.maps * tile.accumulate_loops(self.head_dim4)
    }
}
