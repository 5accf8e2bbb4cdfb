//! Backward, gradient of the query: a tile of queries walks the key tiles.

use cubecl::prelude::*;

use super::gradient::{Differential, score_gradients};
use super::shape::GradientShape;
use crate::kernels::portable::product::{accumulate, multiply_transposed, write_weights};
use crate::kernels::portable::rows::{RowsAre, filled, mask, store_row, zeros};
use crate::kernels::portable::stage::{Axis, Rows, stage_resident};
use crate::kernels::portable::tile::place;
use crate::math::F4;
use crate::math::layout::Strides;
use crate::math::mask::Band;

/// Shared memory in bytes.
pub(crate) const fn shared_memory(shape: &GradientShape) -> usize {
    let tile = &shape.tile;
    let vectors = shape.maps * tile.resident_len(shape.head_dim4)
        + tile.resident_len(shape.value_dim4)
        + tile.chunk_len(shape.key_maps)
        + shape.maps * tile.weight_len();
    16 * vectors
}

/// Where the pass's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct QueryGradientStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    /// Gradient of the output before the norm.
    pub grad: Strides,
    pub grad_query: Strides,
}

/// Grid: (query tiles, query heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_query<F: Float, N: Size>(
    query: &[Vector<F, N>],
    key: &[Vector<F, N>],
    value: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    statistics: &[f32],
    grad_query: &mut [Vector<F, N>],
    at: QueryGradientStrides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: GradientShape,
    #[define(F)] _dtype: ElemType,
) {
    let tile = comptime!(shape.tile);
    let maps = comptime!(shape.maps);
    let rows = comptime!(tile.rows);
    let head = CUBE_POS_Y as usize;
    let batch = CUBE_POS_Z as usize;
    let kv_head = head / group as usize;
    let query_len = band.query_len as usize;
    let key_len = band.key_len as usize;
    let first_row = CUBE_POS_X as usize * tile.tile_rows();

    let query_axis = comptime!(Axis::maps(shape.head_dim4, maps));
    let key_axis = comptime!(Axis::maps(shape.head_dim4, shape.key_maps));
    let head_axis = comptime!(Axis::whole(shape.head_dim4));
    let value_axis = comptime!(Axis::halves(shape.value_dim4));
    let grad_axis = comptime!(Axis::whole(shape.value_dim4));
    let owned4 = comptime!(tile.owned4(shape.head_dim4));

    let mut queries =
        Shared::<[F4]>::new_slice(comptime!(maps * tile.resident_len(shape.head_dim4)));
    let mut grads = Shared::<[F4]>::new_slice(comptime!(tile.resident_len(shape.value_dim4)));
    let mut chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(shape.key_maps)));
    let mut weights = Shared::<[F4]>::new_slice(comptime!(maps * tile.weight_len()));

    let query_rows = Rows::of(&at.query, batch, head, first_row, query_len);
    let grad_rows = Rows::of(&at.grad, batch, head, first_row, query_len);
    stage_resident(query, &query_rows, scale, &mut queries, query_axis, tile);
    stage_resident(grad, &grad_rows, 1.0, &mut grads, grad_axis, tile);

    let (_x, y) = place(tile);
    let line = batch * CUBE_COUNT_Y as usize + head;
    let plane = CUBE_COUNT_Z as usize * CUBE_COUNT_Y as usize * query_len;
    let mut sums = zeros(comptime!(maps * rows * owned4));
    let last_row = min(first_row + tile.tile_rows(), query_len) - 1;
    let bounds = band.keys(first_row as i32, last_row as i32, shape.sides);
    let mut first_key = bounds.start as usize;
    while first_key < bounds.end as usize {
        let key_rows = Rows::of(&at.key, batch, kv_head, first_key, key_len);
        let value_rows = Rows::of(&at.value, batch, kv_head, first_key, key_len);
        let mut scores = filled(0.0, comptime!(maps * rows * tile.cols));
        let mut grad_weights = filled(0.0, comptime!(rows * tile.cols));
        multiply_transposed(
            &mut scores,
            &queries,
            key,
            &key_rows,
            1.0,
            &mut chunk,
            maps,
            key_axis,
            tile,
        );
        multiply_transposed(
            &mut grad_weights,
            &grads,
            value,
            &value_rows,
            1.0,
            &mut chunk,
            1usize,
            value_axis,
            tile,
        );
        if bounds.has_edge(first_key as i32, tile.tile_cols()) {
            mask(
                &mut scores,
                &band,
                first_row,
                first_key,
                RowsAre::Queries,
                maps,
                shape.sides,
                tile,
            );
        }
        #[unroll]
        for i in 0..rows {
            // Read here, not before the loop: the statistics would occupy registers during the products.
            let row = min(first_row + y * rows + i, query_len - 1);
            let statistic = Differential::load(statistics, line * query_len + row, plane, maps);
            #[unroll]
            for j in 0..tile.cols {
                score_gradients(
                    &mut scores,
                    &mut grad_weights,
                    &statistic,
                    comptime!(i * tile.cols + j),
                    maps,
                    tile,
                );
            }
        }
        #[unroll]
        for m in 0..maps {
            write_weights(
                &mut weights,
                &scores,
                m,
                comptime!(m * rows * tile.cols),
                tile,
            );
        }
        if comptime!(shape.key_maps == maps) {
            #[unroll]
            for m in 0..maps {
                let first = comptime!(m * rows * owned4);
                accumulate(
                    &mut sums,
                    &weights,
                    key,
                    &key_rows.of_map(m),
                    &mut chunk,
                    1usize,
                    m,
                    first,
                    head_axis,
                    tile,
                );
            }
        } else {
            accumulate(
                &mut sums, &weights, key, &key_rows, &mut chunk, maps, 0usize, 0usize, head_axis,
                tile,
            );
        }
        first_key += tile.tile_cols();
    }

    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < query_len {
            #[unroll]
            for m in 0..maps {
                let start = at.grad_query.start(batch, head)
                    + row * at.grad_query.seq as usize
                    + m * at.grad_query.pair as usize;
                store_row(
                    grad_query,
                    start,
                    0,
                    &sums,
                    scale,
                    comptime!((m * rows + i) * owned4),
                    head_axis,
                    tile,
                );
            }
        }
    }
}
