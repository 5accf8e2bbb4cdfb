//! Loads of tiles with all their columns.

use cubecl::prelude::*;

use super::dims::Tile;
use crate::kernels::hopper::ptx::tma::{BoxStart, load_box};
use crate::kernels::hopper::ptx::wgmma::PANEL;

/// Where the rows of a tile begin.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub(crate) struct RowStart {
    pub head: u32,
    pub row: i32,
    pub batch: u32,
}

/// Copies a tile of map `map` to shared memory at `to`, panel by panel; its bytes count for `landed`.
#[cube]
pub(crate) fn load_tile(
    source: u64,
    to: u32,
    landed: u32,
    start: RowStart,
    #[comptime] map: usize,
    #[comptime] tile: Tile,
) {
    let part_panels = comptime!(tile.panels() / tile.parts);
    #[unroll]
    for panel in 0..comptime!(tile.panels()) {
        let at = BoxStart {
            column: comptime!((panel % part_panels * PANEL) as i32).runtime(),
            pair: comptime!((map + panel / part_panels) as i32).runtime(),
            head: start.head as i32,
            row: start.row,
            batch: start.batch as i32,
        };
        let to = to + comptime!((panel * tile.panel_bytes()) as u32);
        load_box(to, source, landed, at, 1usize);
    }
}
