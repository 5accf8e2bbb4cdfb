//! A ring of tiles in shared memory that the producer fills and consumers empty in the same order.

use cubecl::prelude::*;

use super::memory::{BARRIER, RingPlace, Room};
use super::ptx::mbarrier::{barrier_arrive, barrier_expect, barrier_wait};

/// Where a ring is, and how far one party has gone around it.
#[derive(CubeType)]
pub(crate) struct Ring {
    tiles: u32,
    full: u32,
    empty: u32,
    stage: u32,
    parity: u32,
    #[cube(comptime)]
    place: RingPlace,
}

#[cube]
impl Ring {
    /// For the producer: the phases before the first have ended, so all stages are empty.
    pub fn to_fill(room: &Room, #[comptime] place: RingPlace) -> Ring {
        Ring {
            tiles: room.data + comptime!(place.at as u32),
            full: room.barriers + comptime!(place.full as u32),
            empty: room.barriers + comptime!(place.empty as u32),
            stage: 0u32.runtime(),
            parity: 1u32.runtime(),
            place,
        }
    }

    /// For a consumer.
    pub fn to_empty(room: &Room, #[comptime] place: RingPlace) -> Ring {
        Ring {
            tiles: room.data + comptime!(place.at as u32),
            full: room.barriers + comptime!(place.full as u32),
            empty: room.barriers + comptime!(place.empty as u32),
            stage: 0u32.runtime(),
            parity: 0u32.runtime(),
            place,
        }
    }

    /// The ring at `place`, which has as many stages and goes in step with this one.
    pub fn sibling(&self, #[comptime] place: RingPlace) -> Ring {
        Ring {
            tiles: self.tiles + comptime!((place.at - self.place.at) as u32),
            full: self.full + comptime!((place.full - self.place.full) as u32),
            empty: self.empty + comptime!((place.empty - self.place.empty) as u32),
            stage: self.stage,
            parity: self.parity,
            place,
        }
    }

    /// Ring number `number` of several, of which this one is the first and that at `second` the next.
    pub fn number(&self, number: u32, #[comptime] second: RingPlace) -> Ring {
        Ring {
            tiles: self.tiles + number * comptime!((second.at - self.place.at) as u32),
            full: self.full + number * comptime!((second.full - self.place.full) as u32),
            empty: self.empty + number * comptime!((second.empty - self.place.empty) as u32),
            stage: self.stage,
            parity: self.parity,
            place: comptime!(self.place),
        }
    }

    /// Waits until the stage is empty, in every cube of the cluster, and announces a tile; returns where to load it.
    pub fn begin_tile(&self) -> u32 {
        barrier_wait(
            self.empty + self.stage * comptime!(BARRIER as u32),
            self.parity,
        );
        barrier_expect(self.landed(), comptime!(self.place.lands));
        self.tiles + self.stage * comptime!(self.place.bytes as u32)
    }

    /// Barrier that a load of the announced tile reports to.
    pub fn landed(&self) -> u32 {
        self.full + self.stage * comptime!(BARRIER as u32)
    }

    /// Where the ring's first tile is.
    pub fn first_tile(&self) -> u32 {
        self.tiles
    }

    /// Distance of the stage from the first, in bytes.
    pub fn stage_bytes(&self) -> u32 {
        self.stage * comptime!(self.place.bytes as u32)
    }

    /// Waits for the next tile; returns its number in the ring.
    pub fn await_tile(&self) -> u32 {
        barrier_wait(self.landed(), self.parity);
        self.stage
    }

    /// The warp has read the tile. Every cube of the cluster loads a part of it, and must know.
    pub fn release(&self, #[comptime] cubes: usize) {
        barrier_arrive(self.empty + self.stage * comptime!(BARRIER as u32), cubes);
    }

    /// This ring, one stage ahead.
    pub fn ahead(&self) -> Ring {
        let mut ring = Ring {
            tiles: self.tiles,
            full: self.full,
            empty: self.empty,
            stage: self.stage,
            parity: self.parity,
            place: comptime!(self.place),
        };
        ring.advance();
        ring
    }

    /// On to the next stage.
    pub fn advance(&mut self) {
        self.stage += 1u32;
        if self.stage == comptime!(self.place.stages as u32) {
            self.stage = 0u32;
            self.parity ^= 1u32;
        }
    }
}
