//! Barriers of a cube by number: who meets where.

use cubecl::prelude::*;

use super::accumulator::THREADS;
use crate::kernels::warp::ptx::{meet, meet_at, pass_by};

/// A barrier that two warpgroups meet at. Number 0 is the whole cube's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Barrier {
    /// The two warpgroups with the maps of the same queries.
    Pair = 1,
    /// The first computing warpgroup's turn; the others' follow it.
    FirstTurn,
}

const TWO_GROUPS: u32 = 2 * THREADS as u32;

/// Waits for the other warpgroup of a pair.
#[cube]
pub(crate) fn meet_pair() {
    meet(comptime!(Barrier::Pair as u32), comptime!(TWO_GROUPS));
}

/// Waits for the turn of computing warpgroup `group`.
#[cube]
pub(crate) fn await_turn(group: u32) {
    meet_at(
        group + comptime!(Barrier::FirstTurn as u32),
        comptime!(TWO_GROUPS),
    );
}

/// Passes the turn on to computing warpgroup `group`.
#[cube]
pub(crate) fn pass_turn(group: u32) {
    pass_by(
        group + comptime!(Barrier::FirstTurn as u32),
        comptime!(TWO_GROUPS),
    );
}
