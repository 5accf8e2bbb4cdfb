//! What a computing warpgroup reads, and the products that it begins with it.

use cubecl::prelude::*;

use super::shape::KeysShape;
use crate::kernels::hopper::accumulator::ROWS;
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::mbarrier::barrier_wait;
use crate::kernels::hopper::ptx::wgmma::{
    UNIT, WHOLE_ROW, accumulate, descriptor_columns, descriptor_rows, multiply,
};
use crate::kernels::hopper::ring::Ring;
use crate::kernels::warp::fragment::first_column;

/// Where one warpgroup's operands are, and how far it has come.
#[derive(CubeType)]
pub(crate) struct Tiles {
    /// Barrier of the keys and values.
    landed: u32,
    /// Descriptors of the warpgroup's keys and values.
    keys: u64,
    values: u64,
    /// Queries. The ring of gradients goes in step with theirs.
    queries: Ring,
    /// Descriptors of each ring's first tile, summed over along its rows or across them.
    query_rows: u64,
    query_columns: u64,
    gradient_rows: u64,
    gradient_columns: u64,
    /// The statistics of the thread's first column in the first tile.
    statistics: u32,
}

#[cube]
impl Tiles {
    /// Before the first tile, for warpgroup `group`.
    pub fn new(room: &Room, group: u32, #[comptime] shape: KeysShape) -> Tiles {
        let layout = comptime!(shape.layout());
        let (keys, queries, gradients) = comptime!((layout.keys, layout.queries, layout.gradients));
        let rows = group * comptime!((ROWS * WHOLE_ROW) as u32);
        let key = room.data + comptime!(keys.at as u32) + rows;
        let query = room.data + comptime!(queries.at as u32);
        let gradient = room.data + comptime!(gradients.at as u32);
        let (query_panel, gradient_panel) = comptime!((
            shape.query_tile().panel_bytes(),
            shape.gradient_tile().panel_bytes()
        ));
        // Two numbers a map and column.
        let first = first_column() * comptime!((4 * shape.dims.statistics()) as u32);
        Tiles {
            landed: room.barriers + comptime!(keys.full as u32),
            keys: descriptor_rows(key),
            values: descriptor_rows(key + comptime!(shape.values_at() as u32)),
            queries: Ring::to_empty(room, queries),
            query_rows: descriptor_rows(query),
            query_columns: descriptor_columns(query, query_panel, comptime!(WHOLE_ROW)),
            gradient_rows: descriptor_rows(gradient),
            gradient_columns: descriptor_columns(gradient, gradient_panel, comptime!(WHOLE_ROW)),
            statistics: query + comptime!(shape.statistics_at() as u32) + first,
        }
    }

    /// Waits for the keys, the values and the first queries.
    pub fn await_first(&self) {
        barrier_wait(self.landed, 0u32);
        self.queries.await_tile();
    }

    /// Waits for the queries of the tile after, and returns the distance of their descriptors.
    pub fn await_next(&self) -> u64 {
        let ahead = self.queries.ahead();
        ahead.await_tile();
        stage(&ahead)
    }

    /// The distance of the descriptors of this tile's queries.
    pub fn this(&self) -> u64 {
        stage(&self.queries)
    }

    /// Waits for the gradients of this tile.
    pub fn await_gradients(&self, #[comptime] shape: KeysShape) {
        self.gradients(shape).await_tile();
    }

    fn gradients(&self, #[comptime] shape: KeysShape) -> Ring {
        self.queries.sibling(comptime!(shape.layout().gradients))
    }

    /// Begins `Sᵀ = K Qᵀ` of every map with the queries of the tile at `distance`.
    pub fn begin_scores<S: Size>(
        &self,
        distance: u64,
        #[comptime] shape: KeysShape,
    ) -> Vector<f32, S> {
        multiply::<S>(
            self.keys,
            self.query_rows + distance,
            comptime!(shape.scores()),
            comptime!(shape.key_tile().operand(shape.dims.key_maps)),
            comptime!(shape.query_tile().operand(shape.dims.maps)),
        )
    }

    /// Begins `dPᵀ = V dOᵀ`.
    pub fn begin_weights<S: Size>(&self, #[comptime] shape: KeysShape) -> Vector<f32, S> {
        multiply::<S>(
            self.values,
            self.gradient_rows + stage(&self.gradients(shape)),
            comptime!(shape.weights()),
            comptime!(shape.value_tile().operand(1)),
            comptime!(shape.gradient_tile().operand(1)),
        )
    }

    /// Begins `dV += Pᵀ dO`.
    pub fn begin_values<V: Size, P: Size>(
        &self,
        sums: Vector<f32, V>,
        weights: Vector<u32, P>,
        #[comptime] shape: KeysShape,
    ) -> Vector<f32, V> {
        let right = self.gradient_columns + stage(&self.gradients(shape));
        let product = comptime!(shape.value_sums());
        accumulate::<V, P>(sums, weights, right, product, comptime!(WHOLE_ROW), 0usize)
    }

    /// Begins `dK += dSᵀ Q` of every map.
    pub fn begin_keys<K: Size, P: Size>(
        &self,
        sums: Vector<f32, K>,
        weights: Vector<u32, P>,
        #[comptime] shape: KeysShape,
    ) -> Vector<f32, K> {
        let right = self.query_columns + stage(&self.queries);
        let (product, map) = comptime!((shape.key_sums(), shape.query_tile().bytes()));
        accumulate::<K, P>(sums, weights, right, product, comptime!(WHOLE_ROW), map)
    }

    /// Address of the statistics of the thread's first column in this tile.
    pub fn statistics(&self) -> u32 {
        self.statistics + self.queries.stage_bytes()
    }

    /// The sums are there: queries and gradients may be overwritten.
    pub fn free(&mut self, #[comptime] shape: KeysShape) {
        self.gradients(shape).release(1usize);
        self.queries.release(1usize);
        self.queries.advance();
    }
}

/// A ring's stage as a distance of descriptors.
#[cube]
fn stage(ring: &Ring) -> u64 {
    u64::cast_from(ring.stage_bytes() / comptime!(UNIT as u32))
}
