//! What a computing warpgroup reads, and the products that it begins with it.

use cubecl::prelude::*;

use super::shape::QueriesShape;
use crate::kernels::hopper::accumulator::ROWS;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::mbarrier::barrier_wait;
use crate::kernels::hopper::ptx::wgmma::{
    UNIT, WHOLE_ROW, accumulate, descriptor_columns, descriptor_rows, multiply,
};
use crate::kernels::hopper::ring::Ring;

/// Where one warpgroup's operands are, and how far it has come.
#[derive(CubeType)]
pub(crate) struct Tiles {
    /// Barrier of the queries and gradients.
    landed: u32,
    /// Descriptors of the warpgroup's queries and gradients.
    queries: u64,
    gradients: u64,
    keys: Ring,
    values: Ring,
    /// Descriptors of each ring's first tile, summed over along its rows or across them.
    key_rows: u64,
    key_columns: u64,
    value_rows: u64,
}

#[cube]
impl Tiles {
    /// Before the first tile, for warpgroup `group`.
    pub fn new(room: &Room, group: u32, #[comptime] shape: QueriesShape) -> Tiles {
        let layout = comptime!(shape.layout());
        let (queries, keys, values) = comptime!((layout.queries, layout.keys, layout.values));
        let rows = group * comptime!((ROWS * WHOLE_ROW) as u32);
        let query = room.data + comptime!(queries.at as u32) + rows;
        let key = room.data + comptime!(keys.at as u32);
        let panel = comptime!(shape.key_tile().panel_bytes());
        Tiles {
            landed: room.barriers + comptime!(queries.full as u32),
            queries: descriptor_rows(query),
            gradients: descriptor_rows(query + comptime!(shape.gradients_at() as u32)),
            keys: Ring::to_empty(room, keys),
            values: Ring::to_empty(room, values),
            key_rows: descriptor_rows(key),
            key_columns: descriptor_columns(key, panel, comptime!(WHOLE_ROW)),
            value_rows: descriptor_rows(room.data + comptime!(values.at as u32)),
        }
    }

    /// Waits for the queries, the gradients and the first keys.
    pub fn await_first(&self) {
        barrier_wait(self.landed, 0u32);
        self.keys.await_tile();
    }

    /// Waits for the keys of the tile after, and returns the distance of their descriptors.
    pub fn await_next(&self) -> u64 {
        let ahead = self.keys.ahead();
        ahead.await_tile();
        stage(&ahead)
    }

    /// The distance of the descriptors of this tile's keys.
    pub fn this(&self) -> u64 {
        stage(&self.keys)
    }

    /// Waits for the values of this tile.
    pub fn await_values(&self) {
        self.values.await_tile();
    }

    /// Begins `S = Q Kᵀ` of every map with the keys of the tile at `distance`.
    pub fn begin_scores<S: Size>(
        &self,
        distance: u64,
        #[comptime] shape: QueriesShape,
    ) -> Vector<f32, S> {
        multiply::<S>(
            self.queries,
            self.key_rows + distance,
            comptime!(shape.scores()),
            comptime!(shape.query_tile().operand(shape.dims.maps)),
            comptime!(shape.key_tile().operand(shape.dims.key_maps)),
        )
    }

    /// Begins `dP = dO Vᵀ`.
    pub fn begin_weights<S: Size>(&self, #[comptime] shape: QueriesShape) -> Vector<f32, S> {
        multiply::<S>(
            self.gradients,
            self.value_rows + stage(&self.values),
            comptime!(shape.weights()),
            comptime!(shape.gradient_tile().operand(1)),
            comptime!(shape.value_tile().operand(1)),
        )
    }

    /// Begins `dQ += dS K` of every map.
    pub fn begin_sums<Q: Size, P: Size>(
        &self,
        sums: Vector<f32, Q>,
        weights: Vector<u32, P>,
        #[comptime] shape: QueriesShape,
    ) -> Vector<f32, Q> {
        let right = self.key_columns + stage(&self.keys);
        let (product, keys) = comptime!((shape.sums(), shape.key_tile()));
        let map = comptime!(keys.operand(shape.dims.key_maps).map);
        accumulate::<Q, P>(sums, weights, right, product, comptime!(WHOLE_ROW), map)
    }

    /// The gradients of the weights are there: the values may be overwritten.
    pub fn free_values(&mut self) {
        self.values.release(1usize);
        self.values.advance();
    }

    /// The sums are there: the keys may be overwritten.
    pub fn free_keys(&mut self) {
        self.keys.release(1usize);
        self.keys.advance();
    }
}

/// A ring's stage as a distance of descriptors.
#[cube]
fn stage(ring: &Ring) -> u64 {
    u64::cast_from(ring.stage_bytes() / comptime!(UNIT as u32))
}
