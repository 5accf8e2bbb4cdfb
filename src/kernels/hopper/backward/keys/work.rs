//! Which tiles a cube of the keys' gradients works on.

use cubecl::prelude::*;

use super::shape::KeysShape;
use crate::kernels::hopper::backward::dims::RESIDENT;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::work::{Place, Sequence};

/// A tile of keys, and the queries that see it: of every head of the group, the same.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Work {
    pub batch: u32,
    pub kv_head: u32,
    /// The group's first query head, and how many they are.
    pub first_head: u32,
    pub heads: u32,
    pub first_key: i32,
    pub first_query: i32,
    /// Tiles of queries of a head.
    pub tiles: u32,
    pub sequence: Sequence,
}

#[cube]
impl Work {
    /// Grid: (tiles of keys, key heads, batch). Under a causal mask the first keys are seen most, so they start first.
    pub fn decode(sequence: Sequence, group: u32, #[comptime] shape: KeysShape) -> Work {
        let place = Place::read();
        let first_key = (place.tile * comptime!(RESIDENT as u32)) as i32;
        let last = min(
            first_key + comptime!(RESIDENT as i32),
            sequence.band.key_len,
        ) - 1;
        let bounds = sequence.band.queries(first_key, last, shape.dims.sides);
        let queries = max(bounds.end - bounds.start, 0) as u32;
        let tile = comptime!(shape.settings.tile as u32);
        Work {
            batch: place.batch,
            kv_head: place.head,
            first_head: place.head * group,
            heads: group,
            first_key,
            first_query: bounds.start,
            tiles: (queries + comptime!(tile - 1)) / tile,
            sequence,
        }
    }

    /// Tiles of queries of all heads.
    pub fn steps(&self) -> u32 {
        self.tiles * self.heads
    }
}

/// A cube: its shared memory, and its work.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Cube {
    pub room: Room,
    pub work: Work,
}
