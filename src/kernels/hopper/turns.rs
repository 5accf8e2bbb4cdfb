//! Turns of the computing warpgroups at the tensor cores: one computes exponentials while another's products run.
//!
//! A turn is to begin the products of one tile. The barrier of a group's turn is met by the group, which awaits it, and by
//! the group before it, which passes the turn on; every await has one pass.

use cubecl::prelude::*;

use super::barriers::{await_turn, pass_turn};

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
            pass_turn(0u32.runtime());
        }
        Turns { group, tiles }
    }

    pub fn wait(&self) {
        await_turn(self.group);
    }

    /// Passes on the turn of tile `tile`; the very last turn of all is nobody's to take.
    pub fn pass(&self, tile: u32, #[comptime] groups: usize) {
        let next = self.group + 1u32;
        if next < comptime!(groups as u32) {
            pass_turn(next);
        } else if tile + 1u32 < self.tiles {
            pass_turn(0u32.runtime());
        }
    }
}
