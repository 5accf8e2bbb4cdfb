//! The producer: one thread that lets TMA copy what the computing warpgroups read.

use cubecl::prelude::*;

use super::shape::QueriesShape;
use super::work::Cube;
use crate::kernels::hopper::backward::load::{RowStart, load_tile};
use crate::kernels::hopper::ptx::mbarrier::barrier_expect;
use crate::kernels::hopper::ring::Ring;

/// Tensor maps by address.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Sources {
    pub query: u64,
    pub key: u64,
    pub value: u64,
    pub gradient: u64,
}

#[cube]
pub(crate) fn produce(sources: &Sources, cube: &Cube, #[comptime] shape: QueriesShape) {
    load_queries(sources, cube, shape);
    let mut keys = Ring::to_fill(&cube.room, comptime!(shape.layout().keys));
    let mut values = Ring::to_fill(&cube.room, comptime!(shape.layout().values));
    let work = &cube.work;
    for tile in 0..work.tiles {
        let row = work.first_key + (tile * comptime!(shape.settings.tile as u32)) as i32;
        let start = RowStart {
            head: work.kv_head,
            row: work.sequence.key_start + row,
            batch: work.batch,
        };
        load_keys(sources, &keys, start, shape);
        let to = values.begin_tile();
        let value_tile = comptime!(shape.value_tile());
        load_tile(
            sources.value,
            to,
            values.landed(),
            start,
            0usize,
            value_tile,
        );
        keys.advance();
        values.advance();
    }
}

/// The queries of every map, and the gradients of their outputs.
#[cube]
fn load_queries(sources: &Sources, cube: &Cube, #[comptime] shape: QueriesShape) {
    let place = comptime!(shape.layout().queries);
    let landed = cube.room.barriers + comptime!(place.full as u32);
    barrier_expect(landed, comptime!(place.bytes));
    let to = cube.room.data + comptime!(place.at as u32);
    let start = RowStart {
        head: cube.work.head,
        row: cube.work.sequence.query_start + cube.work.first_query,
        batch: cube.work.batch,
    };
    let tile = comptime!(shape.query_tile());
    #[unroll]
    for map in 0..shape.dims.maps {
        let to = to + comptime!((map * tile.bytes()) as u32);
        load_tile(sources.query, to, landed, start, map, tile);
    }
    let to = to + comptime!(shape.gradients_at() as u32);
    let tile = comptime!(shape.gradient_tile());
    load_tile(sources.gradient, to, landed, start, 0usize, tile);
}

/// The keys of every map.
#[cube]
fn load_keys(sources: &Sources, ring: &Ring, start: RowStart, #[comptime] shape: QueriesShape) {
    let to = ring.begin_tile();
    let tile = comptime!(shape.key_tile());
    #[unroll]
    for map in 0..shape.dims.key_maps {
        let to = to + comptime!((map * tile.bytes()) as u32);
        load_tile(sources.key, to, ring.landed(), start, map, tile);
    }
}
