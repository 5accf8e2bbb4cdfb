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
    /// Keys of the tile whose scores are made next.
    ahead: Ring,
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
            ahead: Ring::to_empty(room, keys),
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
        self.ahead.await_tile();
    }

    /// Waits for the keys of the tile after.
    pub fn await_next(&mut self) {
        self.ahead.advance();
        self.ahead.await_tile();
    }

    /// Waits for the values of this tile.
    pub fn await_values(&self) {
        self.values.await_tile();
    }

    /// Begins `S = Q Kᵀ` of a map with the keys ahead.
    pub fn begin_scores<S: Size>(
        &self,
        #[comptime] map: usize,
        #[comptime] shape: QueriesShape,
    ) -> Vector<f32, S> {
        let query = comptime!((map * shape.query_tile().bytes() / UNIT) as u64);
        multiply::<S>(
            self.queries + query,
            self.key_rows + stage(&self.ahead) + comptime!(key_distance(&shape, map)),
            comptime!(shape.scores()),
            comptime!(shape.query_tile().panel_bytes()),
            comptime!(shape.key_tile().panel_bytes()),
        )
    }

    /// Begins `dP = dO Vᵀ`.
    pub fn begin_weights<S: Size>(&self, #[comptime] shape: QueriesShape) -> Vector<f32, S> {
        multiply::<S>(
            self.gradients,
            self.value_rows + stage(&self.values),
            comptime!(shape.weights()),
            comptime!(shape.gradient_tile().panel_bytes()),
            comptime!(shape.value_tile().panel_bytes()),
        )
    }

    /// Begins `dQ += dS K` of a map.
    pub fn begin_sums<Q: Size, P: Size>(
        &self,
        sums: Vector<f32, Q>,
        weights: Vector<u32, P>,
        #[comptime] map: usize,
        #[comptime] shape: QueriesShape,
    ) -> Vector<f32, Q> {
        let right = self.key_columns + stage(&self.keys) + comptime!(key_distance(&shape, map));
        let product = comptime!(shape.sums());
        accumulate::<Q, P>(sums, weights, right, product, comptime!(WHOLE_ROW))
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

/// Where the keys of a map begin in a tile, as a distance of descriptors.
const fn key_distance(shape: &QueriesShape, map: usize) -> u64 {
    if shape.dims.key_maps == 2 {
        (map * shape.key_tile().bytes() / UNIT) as u64
    } else {
        0
    }
}

/// A ring's stage as a distance of descriptors.
#[cube]
fn stage(ring: &Ring) -> u64 {
    u64::cast_from(ring.stage_bytes() / comptime!(UNIT as u32))
}
