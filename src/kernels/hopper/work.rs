//! Where a cube is in its grid, and the sequence that it works on. Nothing else reads the cube's position.

use cubecl::prelude::*;

use crate::math::mask::Band;

/// Place in a grid of (tiles of rows, heads, batch).
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Place {
    pub tile: u32,
    pub tiles: u32,
    pub head: u32,
    pub heads: u32,
    pub batch: u32,
}

#[cube]
impl Place {
    pub fn read() -> Place {
        Place {
            tile: CUBE_POS_X,
            tiles: CUBE_COUNT_X,
            head: CUBE_POS_Y,
            heads: CUBE_COUNT_Y,
            batch: CUBE_POS_Z,
        }
    }
}

/// The sequence of a cube: where its rows begin in their tensors, and what its queries see of its keys.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Sequence {
    pub query_start: i32,
    pub key_start: i32,
    pub band: Band,
}

#[cube]
impl Sequence {
    /// One sequence a batch entry, from its first row on.
    pub fn dense(band: Band) -> Sequence {
        Sequence {
            query_start: 0i32.runtime(),
            key_start: 0i32.runtime(),
            band,
        }
    }
}
