//! The tiles of keys and values as a computing warpgroup goes through them, and the products that it begins with each.

use cubecl::prelude::*;

use super::shape::HopperShape;
use crate::kernels::hopper::accumulator::ROWS;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::mbarrier::barrier_wait;
use crate::kernels::hopper::ptx::wgmma::{
    Operand, UNIT, WHOLE_ROW, accumulate, descriptor_columns, descriptor_rows, multiply, scale_rows,
};
use crate::kernels::hopper::ring::Ring;
use crate::kernels::warp::softmax::Decay;

/// Where one warpgroup's operands are, and how far it has come.
#[derive(CubeType)]
pub(crate) struct Tiles {
    /// Barrier of the warpgroup's queries.
    queries: u32,
    keys: Ring,
    values: Ring,
    /// Descriptors of the queries and of each ring's first tile.
    query: u64,
    key: u64,
    value: u64,
}

#[cube]
impl Tiles {
    /// Before the first tile, for warpgroup `group`.
    pub fn new(room: &Room, group: u32, #[comptime] shape: HopperShape) -> Tiles {
        let keys = key_ring(room, group, shape);
        let values = Ring::to_empty(room, comptime!(shape.layout().values));
        Tiles {
            queries: room.barriers + query_barrier(group, shape),
            query: descriptor_rows(room.data + query_start(group, shape)),
            key: descriptor_rows(keys.first_tile()),
            value: descriptor_columns(
                values.first_tile(),
                comptime!(shape.value_panel_bytes()),
                comptime!(shape.value_row()),
            ),
            keys,
            values,
        }
    }

    pub fn await_queries(&self) {
        barrier_wait(self.queries, 0u32);
    }

    /// Awaits the next keys and begins `S = Q Kᵀ`.
    pub fn begin_scores<S: Size>(&self, #[comptime] shape: HopperShape) -> Vector<f32, S> {
        let tile =
            u64::cast_from(self.keys.await_tile()) * comptime!((shape.key_bytes() / UNIT) as u64);
        multiply::<S>(
            self.query,
            self.key + tile,
            comptime!(shape.scores()),
            comptime!(Operand::panels(shape.query_panel())),
            comptime!(Operand::panels(shape.key_panel())),
        )
    }

    /// Awaits the next values and begins `O = decay · O + P V`.
    pub fn begin_sums<O: Size, P: Size>(
        &self,
        sums: Vector<f32, O>,
        weights: Vector<u32, P>,
        decay: Decay,
        #[comptime] shape: HopperShape,
    ) -> Vector<f32, O> {
        let outputs = comptime!(shape.outputs());
        let sums = scale_rows::<O>(sums, decay.upper, decay.lower, outputs);
        let tile = u64::cast_from(self.values.await_tile())
            * comptime!((shape.value_bytes() / UNIT) as u64);
        let row = comptime!(shape.value_row());
        accumulate::<O, P>(sums, weights, self.value + tile, outputs, row, 0usize)
    }

    /// The scores are there: the keys may be overwritten.
    pub fn free_keys(&mut self, #[comptime] shape: HopperShape) {
        self.keys.release(comptime!(shape.cubes()));
        self.keys.advance();
    }

    /// The sums are there: the values may be overwritten.
    pub fn free_values(&mut self, #[comptime] shape: HopperShape) {
        self.values.release(comptime!(shape.cubes()));
        self.values.advance();
    }
}

/// The ring of keys that warpgroup `group` reads.
#[cube]
fn key_ring(room: &Room, group: u32, #[comptime] shape: HopperShape) -> Ring {
    let first = Ring::to_empty(room, comptime!(shape.layout().keys[0]));
    if comptime!(shape.key_maps == 2) {
        first.number(group, comptime!(shape.layout().keys[1]))
    } else {
        first
    }
}

/// Where the queries of warpgroup `group` begin: those of its map, or its 64 rows of the only map.
#[cube]
fn query_start(group: u32, #[comptime] shape: HopperShape) -> u32 {
    if comptime!(shape.maps == 2) {
        group * comptime!(shape.layout().queries[1].at as u32)
    } else {
        group * comptime!((ROWS * WHOLE_ROW) as u32)
    }
}

#[cube]
fn query_barrier(group: u32, #[comptime] shape: HopperShape) -> u32 {
    if comptime!(shape.maps == 2) {
        group * comptime!(shape.layout().queries[1].full as u32)
    } else {
        0u32.runtime()
    }
}
