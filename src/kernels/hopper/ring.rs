//! A ring of tiles in shared memory that the producer fills and consumers empty in the same order.

use cubecl::prelude::*;

use super::ptx::mbarrier::{barrier_arrive, barrier_expect, barrier_wait};
use super::ptx::wgmma::descriptor_rows;

/// Where a ring is, and how far one party has gone around it.
#[derive(CubeType)]
pub(crate) struct Ring {
    tiles: u32,
    full: u32,
    empty: u32,
    stage: u32,
    parity: u32,
}

#[cube]
impl Ring {
    /// For the producer: the phases before the first have ended, so all stages are empty.
    pub fn to_fill(tiles: u32, full: u32, empty: u32) -> Ring {
        Ring {
            tiles,
            full,
            empty,
            stage: 0u32.runtime(),
            parity: 1u32.runtime(),
        }
    }

    /// For a consumer.
    pub fn to_empty(tiles: u32, full: u32, empty: u32) -> Ring {
        Ring {
            tiles,
            full,
            empty,
            stage: 0u32.runtime(),
            parity: 0u32.runtime(),
        }
    }

    /// A ring that goes in step with this one, so many bytes further: its tiles, and its barriers.
    pub fn sibling(&self, #[comptime] tiles: usize, #[comptime] barriers: usize) -> Ring {
        Ring {
            tiles: self.tiles + comptime!(tiles as u32),
            full: self.full + comptime!(barriers as u32),
            empty: self.empty + comptime!(barriers as u32),
            stage: self.stage,
            parity: self.parity,
        }
    }

    /// Waits until the stage is empty, in every cube of the cluster, and announces a tile; returns where to load it.
    pub fn begin_tile(&self, #[comptime] bytes: usize) -> u32 {
        barrier_wait(self.empty + self.stage * 8u32, self.parity);
        barrier_expect(self.full + self.stage * 8u32, bytes);
        self.tiles + self.stage * comptime!(bytes as u32)
    }

    /// Barrier that a load of the announced tile reports to.
    pub fn landed(&self) -> u32 {
        self.full + self.stage * 8u32
    }

    /// Descriptor of the ring's first tile, a left or right operand that is summed along its columns.
    pub fn first_rows(&self) -> u64 {
        descriptor_rows(self.tiles)
    }

    /// Waits for the next tile; returns its number in the ring.
    pub fn await_tile(&self) -> u64 {
        barrier_wait(self.full + self.stage * 8u32, self.parity);
        u64::cast_from(self.stage)
    }

    /// The warp has read the tile. Every cube of the cluster loads a part of it, and must know.
    pub fn release(&self, #[comptime] cubes: usize) {
        barrier_arrive(self.empty + self.stage * 8u32, cubes);
    }

    /// On to the next stage.
    pub fn advance(&mut self, #[comptime] stages: usize) {
        self.stage += 1u32;
        if self.stage == comptime!(stages as u32) {
            self.stage = 0u32;
            self.parity ^= 1u32;
        }
    }
}
