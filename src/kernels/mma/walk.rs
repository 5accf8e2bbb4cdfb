//! How a cube goes along tiles: how many there are, and in which stage of shared memory each is.

use cubecl::prelude::*;

use crate::math::mask::Bounds;

/// Of so many tiles, counted from the other end: under a causal mask the last queries work longest, so they start first.
#[cube]
pub(crate) fn reversed(position: u32, count: u32) -> u32 {
    count - 1u32 - position
}

/// Tiles of `tile` positions that cover what is seen.
#[cube]
pub(crate) fn tiles_of(bounds: &Bounds, #[comptime] tile: usize) -> u32 {
    let positions = max(bounds.end - bounds.start, 0) as u32;
    (positions + comptime!(tile as u32 - 1)) / comptime!(tile as u32)
}

/// First position of tile `t`.
#[cube]
pub(crate) fn first_of(bounds: &Bounds, t: u32, #[comptime] tile: usize) -> u32 {
    bounds.start as u32 + t * comptime!(tile as u32)
}

/// The stage of tile `t`.
#[cube]
pub(crate) fn stage_of(t: u32, #[comptime] stages: usize) -> u32 {
    if comptime!(stages == 1) {
        0u32.runtime()
    } else {
        t % comptime!(stages as u32)
    }
}
