//! Backward, gradients of key and value: a tile of keys walks the query tiles of every head of its group.

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

/// Loop iterations of a unit for one tile of queries of one head.
pub(crate) const fn tile_loops(shape: &GradientShape) -> usize {
    shape.tile_loops() + shape.tile.accumulate_loops(shape.value_dim4)
}

/// Shared memory in bytes.
pub(crate) const fn shared_memory(shape: &GradientShape) -> usize {
    let tile = &shape.tile;
    let vectors = shape.key_maps * tile.resident_len(shape.head_dim4)
        + tile.resident_len(shape.value_dim4)
        + tile.chunk_len(shape.maps)
        + (1 + shape.maps) * tile.weight_len();
    16 * vectors
}

/// Where the pass's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct KeyValueGradientStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    /// Gradient of the output before the norm.
    pub grad: Strides,
    pub grad_key: Strides,
    pub grad_value: Strides,
}

/// Grid: (key tiles, key and value heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_key_value<F: Float, N: Size>(
    query: &[Vector<F, N>],
    key: &[Vector<F, N>],
    value: &[Vector<F, N>],
    grad: &[Vector<F, N>],
    statistics: &[f32],
    grad_key: &mut [Vector<F, N>],
    grad_value: &mut [Vector<F, N>],
    at: KeyValueGradientStrides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: GradientShape,
    #[define(F)] _dtype: ElemType,
) {
    let tile = comptime!(shape.tile);
    let maps = comptime!(shape.maps);
    let key_maps = comptime!(shape.key_maps);
    let rows = comptime!(tile.rows);
    let kv_head = CUBE_POS_Y as usize;
    let batch = CUBE_POS_Z as usize;
    let heads = CUBE_COUNT_Y as usize * group as usize;
    let query_len = band.query_len as usize;
    let key_len = band.key_len as usize;
    let first_row = CUBE_POS_X as usize * tile.tile_rows();

    let query_axis = comptime!(Axis::maps(shape.head_dim4, maps));
    let key_axis = comptime!(Axis::maps(shape.head_dim4, key_maps));
    let head_axis = comptime!(Axis::whole(shape.head_dim4));
    let value_axis = comptime!(Axis::halves(shape.value_dim4));
    let grad_axis = comptime!(Axis::whole(shape.value_dim4));
    let key_owned4 = comptime!(tile.owned4(shape.head_dim4));
    let value_owned4 = comptime!(tile.owned4(shape.value_dim4));

    let mut keys =
        Shared::<[F4]>::new_slice(comptime!(key_maps * tile.resident_len(shape.head_dim4)));
    let mut values = Shared::<[F4]>::new_slice(comptime!(tile.resident_len(shape.value_dim4)));
    let mut chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(maps)));
    let mut weights = Shared::<[F4]>::new_slice(comptime!((1 + maps) * tile.weight_len()));

    let key_rows = Rows::of(&at.key, batch, kv_head, first_row, key_len);
    let value_rows = Rows::of(&at.value, batch, kv_head, first_row, key_len);
    // The query is scaled, here as in the forward pass: the scores are then the very same bits.
    stage_resident(key, &key_rows, 1.0, &mut keys, key_axis, tile);
    stage_resident(value, &value_rows, 1.0, &mut values, value_axis, tile);

    let (x, y) = place(tile);
    let mut key_sums = zeros(comptime!(key_maps * rows * key_owned4));
    let mut value_sums = zeros(comptime!(rows * value_owned4));
    let last_row = min(first_row + tile.tile_rows(), key_len) - 1;
    let bounds = band.queries(first_row as i32, last_row as i32, shape.sides);
    for member in 0..group as usize {
        let head = kv_head * group as usize + member;
        let line = batch * heads + head;
        let plane = CUBE_COUNT_Z as usize * heads * query_len;
        let mut first_query = bounds.start as usize;
        while first_query < bounds.end as usize {
            let query_rows = Rows::of(&at.query, batch, head, first_query, query_len);
            let grad_rows = Rows::of(&at.grad, batch, head, first_query, query_len);
            let mut scores = filled(0.0, comptime!(maps * rows * tile.cols));
            let mut grad_weights = filled(0.0, comptime!(rows * tile.cols));
            multiply_transposed(
                &mut scores,
                &keys,
                query,
                &query_rows,
                scale,
                &mut chunk,
                key_maps,
                query_axis,
                tile,
            );
            multiply_transposed(
                &mut grad_weights,
                &values,
                grad,
                &grad_rows,
                1.0,
                &mut chunk,
                1usize,
                grad_axis,
                tile,
            );
            if bounds.has_edge(first_query as i32, tile.tile_cols()) {
                mask(
                    &mut scores,
                    &band,
                    first_row,
                    first_query,
                    RowsAre::Keys,
                    maps,
                    shape.sides,
                    tile,
                );
            }
            #[unroll]
            for j in 0..tile.cols {
                let row = min(first_query + x + j * tile.units_x, query_len - 1);
                let statistic = Differential::load(statistics, line * query_len + row, plane, maps);
                #[unroll]
                for i in 0..rows {
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
            write_weights(&mut weights, &grad_weights, 0usize, 0usize, tile);
            #[unroll]
            for m in 0..maps {
                write_weights(
                    &mut weights,
                    &scores,
                    comptime!(1 + m),
                    comptime!(m * rows * tile.cols),
                    tile,
                );
            }
            accumulate(
                &mut value_sums,
                &weights,
                grad,
                &grad_rows,
                &mut chunk,
                1usize,
                0usize,
                0usize,
                grad_axis,
                tile,
            );
            #[unroll]
            for m in 0..maps {
                let first = comptime!(m.min(key_maps - 1) * rows * key_owned4);
                accumulate(
                    &mut key_sums,
                    &weights,
                    query,
                    &query_rows.of_map(m),
                    &mut chunk,
                    1usize,
                    comptime!(1 + m),
                    first,
                    head_axis,
                    tile,
                );
            }
            first_query += tile.tile_cols();
        }
    }

    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < key_len {
            let start = at.grad_value.start(batch, kv_head) + row * at.grad_value.seq as usize;
            store_row(
                grad_value,
                start,
                at.grad_value.pair as usize,
                &value_sums,
                1.0,
                comptime!(i * value_owned4),
                value_axis,
                tile,
            );
            #[unroll]
            for m in 0..key_maps {
                let start = at.grad_key.start(batch, kv_head)
                    + row * at.grad_key.seq as usize
                    + m * at.grad_key.pair as usize;
                store_row(
                    grad_key,
                    start,
                    0,
                    &key_sums,
                    scale,
                    comptime!((m * rows + i) * key_owned4),
                    head_axis,
                    tile,
                );
            }
        }
    }
}
