//! The producer: one thread that lets TMA copy the tiles to shared memory, in the order in which they are used.
//!
//! The cubes of a cluster have neighbouring queries of one head and walk the same tiles of keys and values. Each loads a
//! part of every tile for all of them, so that a tile leaves the L2 cache once for the cluster. Alone, a cube with two
//! maps and 64 queries would ask L2 for (2 d + dv) · 2 bytes a key, to do no more than 64 · 2 (d + dv) multiply-adds.

use cubecl::prelude::*;

use super::shape::{HopperShape, PANEL};
use super::work::{Cube, Work};
use crate::kernels::hopper::ptx::mbarrier::barrier_expect;
use crate::kernels::hopper::ptx::tma::{BoxStart, load_box};
use crate::kernels::hopper::ptx::wgmma::WHOLE_ROW;
use crate::kernels::hopper::ring::Ring;

/// Tensor maps by address.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Sources {
    pub query: u64,
    pub key: u64,
    pub value: u64,
}

#[cube]
pub(crate) fn produce(sources: &Sources, cube: &Cube, #[comptime] shape: HopperShape) {
    let work = &cube.work;
    #[unroll]
    for map in 0..shape.maps {
        load_queries(sources.query, cube, map, shape);
    }
    let mut keys = Ring::to_fill(&cube.room, comptime!(shape.layout().keys[0]));
    let mut values = Ring::to_fill(&cube.room, comptime!(shape.layout().values));
    // Consumers begin the scores of tile t + 1 before the output of tile t.
    for tile in 0..work.tiles + 1u32 {
        if tile < work.tiles {
            let row = work.first_key + (tile * comptime!(shape.settings.keys as u32)) as i32;
            load_keys(sources.key, work, &keys, row, shape);
            keys.advance();
        }
        if tile > 0u32 {
            let row =
                work.first_key + ((tile - 1u32) * comptime!(shape.settings.keys as u32)) as i32;
            load_values(sources.value, work, &values, row, shape);
            values.advance();
        }
    }
}

#[cube]
fn load_queries(source: u64, cube: &Cube, #[comptime] map: usize, #[comptime] shape: HopperShape) {
    let place = comptime!(shape.layout().queries[map]);
    let landed = cube.room.barriers + comptime!(place.full as u32);
    barrier_expect(landed, comptime!(place.bytes));
    #[unroll]
    for panel in 0..comptime!(shape.query_panels()) {
        let to = cube.room.data + comptime!((place.at + panel * shape.query_panel()) as u32);
        let start = BoxStart {
            column: comptime!((panel * PANEL) as i32).runtime(),
            pair: comptime!(map as i32).runtime(),
            head: cube.work.head as i32,
            row: cube.work.sequence.query_start + cube.work.first_query,
            batch: cube.work.batch as i32,
        };
        load_box(to, source, landed, start, 1usize);
    }
}

/// The tile of keys of every map, each in its own ring; the rings go in step.
#[cube]
fn load_keys(source: u64, work: &Work, first: &Ring, row: i32, #[comptime] shape: HopperShape) {
    #[unroll]
    for map in 0..shape.key_maps {
        let ring = first.sibling(comptime!(shape.layout().keys[map]));
        let tile = ring.begin_tile();
        #[unroll]
        for panel in 0..comptime!(shape.query_panels()) {
            let start = BoxStart {
                column: comptime!((panel * PANEL) as i32).runtime(),
                pair: comptime!(map as i32).runtime(),
                head: work.kv_head as i32,
                row: work.sequence.key_start + row + part_row(work, shape),
                batch: work.batch as i32,
            };
            let to = tile + comptime!((panel * shape.key_panel()) as u32);
            let to = to + part_row(work, shape) as u32 * comptime!(WHOLE_ROW as u32);
            load_box(to, source, ring.landed(), start, comptime!(shape.cubes()));
        }
    }
}

#[cube]
fn load_values(source: u64, work: &Work, ring: &Ring, row: i32, #[comptime] shape: HopperShape) {
    let tile = ring.begin_tile();
    let part_panels = comptime!(shape.value_panels() / shape.value_parts);
    #[unroll]
    for panel in 0..comptime!(shape.value_panels()) {
        let start = BoxStart {
            column: comptime!((panel % part_panels * shape.value_panel) as i32).runtime(),
            pair: comptime!((panel / part_panels) as i32).runtime(),
            head: work.kv_head as i32,
            row: work.sequence.key_start + row + part_row(work, shape),
            batch: work.batch as i32,
        };
        let to = tile + comptime!((panel * shape.value_panel_bytes()) as u32);
        let to = to + part_row(work, shape) as u32 * comptime!(shape.value_row() as u32);
        load_box(to, source, ring.landed(), start, comptime!(shape.cubes()));
    }
}

/// First row that the cube loads of a tile, for all cubes of its cluster.
#[cube]
fn part_row(work: &Work, #[comptime] shape: HopperShape) -> i32 {
    (work.rank * comptime!(shape.loaded_rows() as u32)) as i32
}
