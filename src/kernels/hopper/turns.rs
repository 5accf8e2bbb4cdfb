//! Turns of the computing warpgroups at the tensor cores: one computes exponentials while another's products run.
//!
//! A turn is to begin the products of one tile. Barrier `FIRST + g` is met by group `g`, which awaits its turn, and by
//! the group before it, which passes the turn on; every await has one pass.

use cubecl::prelude::*;

use super::accumulator::THREADS;
use crate::kernels::warp::ptx::{meet_at, pass_by};

/// Barriers before are those of the whole cube and of the epilogue.
const FIRST: u32 = 2;
const TWO_GROUPS: u32 = 2 * THREADS as u32;

/// One group's place in the round.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Turns {
    group: u32,
    /// Tiles whose products are begun in turn.
    tiles: u32,
}

#[cube]
impl Turns {
    /// The first turn is the first group's: the last group passes it on before it has any.
    pub fn new(group: u32, tiles: u32, #[comptime] groups: usize) -> Turns {
        if tiles > 0u32 && group == comptime!(groups as u32 - 1) {
            pass_by(comptime!(FIRST).runtime(), comptime!(TWO_GROUPS));
        }
        Turns { group, tiles }
    }

    pub fn wait(&self) {
        meet_at(self.group + comptime!(FIRST), comptime!(TWO_GROUPS));
    }

    /// Passes on the turn of tile `tile`; the very last turn of all is nobody's to take.
    pub fn pass(&self, tile: u32, #[comptime] groups: usize) {
        let next = self.group + 1u32;
        if next < comptime!(groups as u32) {
            pass_by(next + comptime!(FIRST), comptime!(TWO_GROUPS));
        } else if tile + 1u32 < self.tiles {
            pass_by(comptime!(FIRST).runtime(), comptime!(TWO_GROUPS));
        }
    }
}
