//! The producer: one thread that lets TMA copy the tiles to shared memory, in the order in which they are used.
//!
//! The cubes of a cluster have neighbouring queries of one head and walk the same tiles of keys and values. Each loads a
//! part of every tile for all of them, so that a tile leaves the L2 cache once for the cluster. Alone, a cube with two
//! maps and 64 queries would ask L2 for (2 d + dv) · 2 bytes a key, to do no more than 64 · 2 (d + dv) multiply-adds.

use cubecl::prelude::*;

use super::shape::{HopperShape, PANEL};
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

/// Which tiles a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Work {
    pub batch: i32,
    pub head: i32,
    pub kv_head: i32,
    pub first_query: i32,
    pub first_key: i32,
    /// Tiles of keys.
    pub tiles: u32,
    /// The cube's number in its cluster.
    pub rank: u32,
}

#[cube]
pub(crate) fn produce(
    sources: &Sources,
    work: &Work,
    memory: u32,
    barriers: u32,
    #[comptime] shape: HopperShape,
) {
    #[unroll]
    for map in 0..shape.maps {
        load_queries(sources.query, work, memory, barriers, map, shape);
    }
    let mut keys = Ring::to_fill(
        memory + comptime!(shape.key_ring(0) as u32),
        barriers + comptime!(shape.key_full(0) as u32),
        barriers + comptime!(shape.key_empty(0) as u32),
    );
    let mut values = Ring::to_fill(
        memory + comptime!(shape.value_ring() as u32),
        barriers + comptime!(shape.value_full() as u32),
        barriers + comptime!(shape.value_empty() as u32),
    );
    // Consumers begin the scores of tile t + 1 before the output of tile t.
    for tile in 0..work.tiles + 1u32 {
        if tile < work.tiles {
            let row = work.first_key + (tile * comptime!(shape.settings.keys as u32)) as i32;
            load_keys(sources.key, work, &keys, row, shape);
            keys.advance(comptime!(shape.settings.key_stages));
        }
        if tile > 0u32 {
            let row =
                work.first_key + ((tile - 1u32) * comptime!(shape.settings.keys as u32)) as i32;
            load_values(sources.value, work, &values, row, shape);
            values.advance(comptime!(shape.settings.value_stages));
        }
    }
}

#[cube]
fn load_queries(
    source: u64,
    work: &Work,
    memory: u32,
    barriers: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let landed = barriers + comptime!(shape.query_full(map) as u32);
    barrier_expect(landed, comptime!(shape.query_bytes()));
    #[unroll]
    for panel in 0..comptime!(shape.query_panels()) {
        let to =
            memory + comptime!((map * shape.query_bytes() + panel * shape.query_panel()) as u32);
        let start = BoxStart {
            column: comptime!((panel * PANEL) as i32).runtime(),
            pair: comptime!(map as i32).runtime(),
            head: work.head,
            row: work.first_query,
            batch: work.batch,
        };
        load_box(to, source, landed, start, 1usize);
    }
}

/// The tile of keys of every map, each in its own ring; the rings go in step.
#[cube]
fn load_keys(source: u64, work: &Work, first: &Ring, row: i32, #[comptime] shape: HopperShape) {
    #[unroll]
    for map in 0..shape.key_maps {
        let ring = first.sibling(
            comptime!(shape.key_ring(map) - shape.key_ring(0)),
            comptime!(shape.key_full(map) - shape.key_full(0)),
        );
        let tile = ring.begin_tile(comptime!(shape.key_bytes()));
        #[unroll]
        for panel in 0..comptime!(shape.query_panels()) {
            let start = BoxStart {
                column: comptime!((panel * PANEL) as i32).runtime(),
                pair: comptime!(map as i32).runtime(),
                head: work.kv_head,
                row: row + part_row(work, shape),
                batch: work.batch,
            };
            let to = tile + comptime!((panel * shape.key_panel()) as u32);
            let to = to + part_row(work, shape) as u32 * comptime!(WHOLE_ROW as u32);
            load_box(to, source, ring.landed(), start, comptime!(shape.cubes()));
        }
    }
}

#[cube]
fn load_values(source: u64, work: &Work, ring: &Ring, row: i32, #[comptime] shape: HopperShape) {
    let tile = ring.begin_tile(comptime!(shape.value_bytes()));
    let part_panels = comptime!(shape.value_panels() / shape.value_parts);
    #[unroll]
    for panel in 0..comptime!(shape.value_panels()) {
        let start = BoxStart {
            column: comptime!((panel % part_panels * shape.value_panel) as i32).runtime(),
            pair: comptime!((panel / part_panels) as i32).runtime(),
            head: work.kv_head,
            row: row + part_row(work, shape),
            batch: work.batch,
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
