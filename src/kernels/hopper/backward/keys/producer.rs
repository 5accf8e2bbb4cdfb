//! The producer: one thread that lets TMA copy what the computing warpgroups read.

use cubecl::prelude::*;

use super::shape::KeysShape;
use super::work::Cube;
use crate::kernels::hopper::backward::load::{RowStart, load_tile};
use crate::kernels::hopper::ptx::mbarrier::barrier_expect;
use crate::kernels::hopper::ptx::tma::{BoxStart, load_box};
use crate::kernels::hopper::ring::Ring;

/// Tensor maps by address.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Sources {
    pub query: u64,
    pub key: u64,
    pub value: u64,
    pub gradient: u64,
    pub statistics: u64,
}

#[cube]
pub(crate) fn produce(sources: &Sources, cube: &Cube, #[comptime] shape: KeysShape) {
    load_keys(sources, cube, shape);
    let mut queries = Ring::to_fill(&cube.room, comptime!(shape.layout().queries));
    let mut gradients = Ring::to_fill(&cube.room, comptime!(shape.layout().gradients));
    let work = &cube.work;
    for head in 0..work.heads {
        for tile in 0..work.tiles {
            let row = work.first_query + (tile * comptime!(shape.settings.tile as u32)) as i32;
            let start = RowStart {
                head: work.first_head + head,
                row: work.sequence.query_start + row,
                batch: work.batch,
            };
            load_queries(sources, &queries, start, shape);
            let to = gradients.begin_tile();
            let landed = gradients.landed();
            let gradient_tile = comptime!(shape.gradient_tile());
            load_tile(sources.gradient, to, landed, start, 0usize, gradient_tile);
            queries.advance();
            gradients.advance();
        }
    }
}

/// The keys of every map, and the values.
#[cube]
fn load_keys(sources: &Sources, cube: &Cube, #[comptime] shape: KeysShape) {
    let place = comptime!(shape.layout().keys);
    let landed = cube.room.barriers + comptime!(place.full as u32);
    barrier_expect(landed, comptime!(place.bytes));
    let to = cube.room.data + comptime!(place.at as u32);
    let start = RowStart {
        head: cube.work.kv_head,
        row: cube.work.sequence.key_start + cube.work.first_key,
        batch: cube.work.batch,
    };
    let tile = comptime!(shape.key_tile());
    #[unroll]
    for map in 0..shape.dims.key_maps {
        let to = to + comptime!((map * tile.bytes()) as u32);
        load_tile(sources.key, to, landed, start, map, tile);
    }
    if comptime!(shape.key) {
        let to = to + comptime!(shape.values_at() as u32);
        let tile = comptime!(shape.value_tile());
        load_tile(sources.value, to, landed, start, 0usize, tile);
    }
}

/// The queries of every map, and their statistics.
#[cube]
fn load_queries(sources: &Sources, ring: &Ring, start: RowStart, #[comptime] shape: KeysShape) {
    let to = ring.begin_tile();
    let tile = comptime!(shape.query_tile());
    #[unroll]
    for map in 0..shape.dims.maps {
        let to = to + comptime!((map * tile.bytes()) as u32);
        load_tile(sources.query, to, ring.landed(), start, map, tile);
    }
    let at = BoxStart {
        column: start.row * comptime!(shape.dims.statistics() as i32),
        pair: 0i32.runtime(),
        head: start.head as i32,
        row: 0i32.runtime(),
        batch: start.batch as i32,
    };
    let to = to + comptime!(shape.statistics_at() as u32);
    load_box(to, sources.statistics, ring.landed(), at, 1usize);
}
