//! Which tiles a cube of the forward kernel works on.

use cubecl::prelude::*;

use super::shape::HopperShape;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::work::{Place, Sequence};
use crate::math::mask::Bounds;

/// Which tiles a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Work {
    pub batch: u32,
    pub head: u32,
    pub kv_head: u32,
    pub first_query: i32,
    pub first_key: i32,
    /// Tiles of keys.
    pub tiles: u32,
    /// The cube's number in its cluster.
    pub rank: u32,
    pub sequence: Sequence,
}

#[cube]
impl Work {
    /// Grid: (query tiles, query heads, batch). Longest tiles first: under a causal mask, the last queries.
    pub fn decode(sequence: Sequence, group: u32, #[comptime] shape: HopperShape) -> Work {
        let place = Place::read();
        let cubes = comptime!(shape.cubes() as u32);
        let cluster = place.tiles / cubes - 1u32 - place.tile / cubes;
        let rank = place.tile % cubes;
        let first = (cluster * cubes * comptime!(shape.rows() as u32)) as i32;
        let last = min(
            first + comptime!((shape.cubes() * shape.rows()) as i32),
            sequence.band.query_len,
        ) - 1;
        let bounds = sequence.band.keys(first, last, shape.sides);
        Work {
            batch: place.batch,
            head: place.head,
            kv_head: place.head / group,
            first_query: first + (rank * comptime!(shape.rows() as u32)) as i32,
            first_key: bounds.start,
            tiles: key_tiles(&bounds, shape),
            rank,
            sequence,
        }
    }
}

#[cube]
fn key_tiles(bounds: &Bounds, #[comptime] shape: HopperShape) -> u32 {
    let keys = max(bounds.end - bounds.start, 0) as u32;
    (keys + comptime!(shape.settings.keys as u32 - 1)) / comptime!(shape.settings.keys as u32)
}

/// A cube: its shared memory, and its work.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Cube {
    pub room: Room,
    pub work: Work,
}
