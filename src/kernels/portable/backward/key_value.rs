//! Backward, gradients of key and value: a tile of keys walks the query tiles of every head of its group.

use cubecl::prelude::*;

use super::gradient::Scores;
use super::shape::GradientShape;
use crate::kernels::passes::statistics::planes::Statistics;
use crate::kernels::portable::operand::Operand;
use crate::kernels::portable::product::{accumulate, multiply_transposed};
use crate::kernels::portable::stage::{Resident, stage_resident};
use crate::kernels::portable::tile::place;
use crate::kernels::portable::unit::{RowsAre, mask, store_row, zeros};
use crate::kernels::portable::weights::{Weights, write_maps, write_weights};
use crate::kernels::work::{Sequence, Work};
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
    let (tile, maps, key_maps) = comptime!((shape.tile, shape.maps, shape.key_maps));
    let rows = comptime!(tile.rows);
    let (key_axis, value_axis) = comptime!((shape.key_axis(), shape.value_axis()));
    let (query_axis, grad_axis) = comptime!((shape.query_axis(), shape.grad_axis()));
    let key_owned4 = comptime!(tile.owned4(shape.head_dim4));
    let value_owned4 = comptime!(tile.owned4(shape.value_dim4));
    let work = Work::decode_keys(group, tile.tile_rows());
    let (first_row, kv_head) = (work.first_row, work.kv_head);
    let sequence = Sequence::dense(work.batch, band);
    let places = Statistics::of(&work, sequence.queries.len);

    let mut keys = Resident::new(key_axis, tile);
    let mut values = Resident::new(value_axis, tile);
    let mut chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(maps)));
    let mut weights = Shared::<[F4]>::new_slice(comptime!((1 + maps) * tile.weight_len()));

    let key_rows = Operand::of(&at.key, &sequence.keys, kv_head, first_row, key_axis);
    let value_rows = Operand::of(&at.value, &sequence.keys, kv_head, first_row, value_axis);
    // The query is scaled, here as in the forward pass: the scores are then the very same bits.
    stage_resident(key, &key_rows, 1.0, &mut keys, tile);
    stage_resident(value, &value_rows, 1.0, &mut values, tile);

    let (x, y) = place(tile);
    let mut key_sums = zeros(comptime!(key_maps * rows * key_owned4));
    let mut value_sums = zeros(comptime!(rows * value_owned4));
    let bounds = sequence.queries_seeing(first_row, tile.tile_rows(), shape.sides);
    for member in 0..group as usize {
        let head = work.head + member;
        let mut first = bounds.start as usize;
        while first < bounds.end as usize {
            let queries = Operand::of(&at.query, &sequence.queries, head, first, query_axis);
            let grads = Operand::of(&at.grad, &sequence.queries, head, first, grad_axis);
            let mut unit = Scores::new(shape);
            multiply_transposed(
                &mut unit.scores,
                &keys,
                query,
                &queries,
                scale,
                &mut chunk,
                tile,
            );
            multiply_transposed(
                &mut unit.grads,
                &values,
                grad,
                &grads,
                1.0,
                &mut chunk,
                tile,
            );
            if bounds.has_edge(first as i32, tile.tile_cols()) {
                let masking = comptime!(shape.masking(RowsAre::Keys));
                mask(
                    &mut unit.scores,
                    &sequence.band,
                    first_row,
                    first,
                    masking,
                    tile,
                );
            }
            #[unroll]
            for j in 0..tile.cols {
                let row = min(first + x + j * tile.units_x, sequence.queries.len - 1);
                let statistic =
                    places.read(statistics, places.at(work.line(head), row), shape.planes());
                #[unroll]
                for i in 0..rows {
                    unit.differentiate(&statistic, comptime!(i * tile.cols + j), shape);
                }
            }
            write_weights(&mut weights, &unit.grads, PROBABILITIES, 0usize, tile);
            write_maps(&mut weights, &unit.scores, SCORES, maps, tile);
            let probabilities = comptime!(Weights {
                index: PROBABILITIES,
                count: 1,
                sum: 0,
            });
            accumulate(
                &mut value_sums,
                &weights,
                grad,
                &grads,
                &mut chunk,
                probabilities,
                tile,
            );
            add_queries(&mut key_sums, &weights, query, &queries, &mut chunk, shape);
            first += tile.tile_cols();
        }
    }

    let value_target = Operand::of(
        &at.grad_value,
        &sequence.keys,
        kv_head,
        first_row,
        value_axis,
    );
    let key_target = Operand::of(&at.grad_key, &sequence.keys, kv_head, first_row, key_axis);
    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < sequence.keys.len {
            let first = comptime!(i * value_owned4);
            store_row(
                grad_value,
                &value_target,
                row,
                &value_sums,
                1.0,
                first,
                tile,
            );
            #[unroll]
            for m in 0..key_maps {
                let first = comptime!((m * rows + i) * key_owned4);
                store_row(
                    grad_key,
                    &key_target.of_map(m),
                    row,
                    &key_sums,
                    scale,
                    first,
                    tile,
                );
            }
        }
    }
}

/// Weight tile of the combined probabilities.
const PROBABILITIES: usize = 0;
/// First weight tile of the gradients of the scores.
const SCORES: usize = 1;

/// Adds `dS_mᵀ Q_m` of a tile of queries for every map.
#[cube]
fn add_queries<F: Float, N: Size>(
    sums: &mut Array<F4>,
    weights: &Shared<[F4]>,
    query: &[Vector<F, N>],
    queries: &Operand,
    chunk: &mut Shared<[F4]>,
    #[comptime] shape: GradientShape,
) {
    let tile = comptime!(shape.tile);
    let map_sums = comptime!(tile.rows * tile.owned4(shape.head_dim4));
    #[unroll]
    for m in 0..shape.maps {
        let one = comptime!(Weights {
            index: SCORES + m,
            count: 1,
            sum: m.min(shape.key_maps - 1) * map_sums,
        });
        accumulate(sums, weights, query, &queries.of_map(m), chunk, one, tile);
    }
}
