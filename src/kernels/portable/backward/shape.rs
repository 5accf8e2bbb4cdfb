//! What is compiled into the kernels of the gradients of query, key and value.

use crate::kernels::portable::tile::Tile;
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

    /// Loop iterations of a unit for the scores and dP of one tile, and for summing the gradients of `maps` heads.
    pub(crate) const fn tile_loops(&self) -> usize {
        let tile = &self.tile;
        1 + tile.product_loops(self.head_dim4, self.maps)
            + tile.product_loops(self.value_dim4, 1)
            + self.maps * tile.accumulate_loops(self.head_dim4)
    }
}
