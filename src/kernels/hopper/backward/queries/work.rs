//! Which tiles a cube of the queries' gradient works on.

use cubecl::prelude::*;

use super::shape::QueriesShape;
use crate::kernels::hopper::backward::dims::RESIDENT;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::work::{Place, Sequence};

/// A tile of queries, and the keys that it sees.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Work {
    pub batch: u32,
    pub head: u32,
    pub heads: u32,
    pub kv_head: u32,
    pub first_query: i32,
    pub first_key: i32,
    /// Tiles of keys.
    pub tiles: u32,
    pub sequence: Sequence,
}

#[cube]
impl Work {
    /// Grid: (tiles of queries, query heads, batch). Longest tiles first: under a causal mask, the last queries.
    pub fn decode(sequence: Sequence, group: u32, #[comptime] shape: QueriesShape) -> Work {
        let place = Place::read();
        let tile = place.tiles - 1u32 - place.tile;
        let first_query = (tile * comptime!(RESIDENT as u32)) as i32;
        let last = min(
            first_query + comptime!(RESIDENT as i32),
            sequence.band.query_len,
        ) - 1;
        let bounds = sequence.band.keys(first_query, last, shape.dims.sides);
        let keys = max(bounds.end - bounds.start, 0) as u32;
        let tile = comptime!(shape.settings.tile as u32);
        Work {
            batch: place.batch,
            head: place.head,
            heads: place.heads,
            kv_head: place.head / group,
            first_query,
            first_key: bounds.start,
            tiles: (keys + comptime!(tile - 1)) / tile,
            sequence,
        }
    }
}

/// A cube: its shared memory, and its work.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Cube {
    pub room: Room,
    pub work: Work,
}
