//! Which rows and which map a warp of a cube has.

use cubecl::prelude::*;

use super::dims::Dims;
use crate::kernels::warp::ptx::uniform;

/// The warp's number.
#[cube]
fn warp() -> u32 {
    uniform(UNIT_POS / 32u32)
}

/// The warp's map, where two warps share their rows.
#[cube]
pub(crate) fn warp_map(#[comptime] dims: Dims) -> u32 {
    if comptime!(dims.splits()) {
        warp() % 2u32
    } else {
        0u32.runtime()
    }
}

/// First row of the warp in the cube.
#[cube]
pub(crate) fn warp_row(#[comptime] dims: Dims) -> u32 {
    if comptime!(dims.splits()) {
        warp() / 2u32 * 16u32
    } else {
        warp() * 16u32
    }
}

/// The thread's upper row in the cube.
#[cube]
pub(crate) fn thread_row(#[comptime] dims: Dims) -> u32 {
    warp_row(dims) + UNIT_POS % 32u32 / 4u32
}
