//! Backward, gradient of the query: a tile of queries walks the key tiles.

use cubecl::prelude::*;

use super::gradient::Scores;
use super::shape::GradientShape;
use crate::kernels::passes::statistics::planes::Statistics;
use crate::kernels::portable::operand::Operand;
use crate::kernels::portable::product::{accumulate, multiply_transposed};
use crate::kernels::portable::stage::{Resident, stage_resident};
use crate::kernels::portable::tile::place;
use crate::kernels::portable::unit::{RowsAre, mask, store_row, zeros};
use crate::kernels::portable::weights::{Weights, write_maps};
use crate::kernels::work::{Order, Sequence, Work};
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
    let (tile, maps) = comptime!((shape.tile, shape.maps));
    let rows = comptime!(tile.rows);
    let (key_axis, value_axis) = comptime!((shape.key_axis(), shape.value_axis()));
    let (query_axis, grad_axis) = comptime!((shape.query_axis(), shape.grad_axis()));
    let owned4 = comptime!(tile.owned4(shape.head_dim4));
    let work = Work::decode_queries(group, tile.tile_rows(), Order::FirstToLast);
    let (first_row, head, kv_head) = (work.first_row, work.head, work.kv_head);
    let sequence = Sequence::dense(work.batch, band);
    let places = Statistics::of(&work, sequence.queries.len);

    let mut queries = Resident::new(query_axis, tile);
    let mut grads = Resident::new(grad_axis, tile);
    let mut chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(shape.key_maps)));
    let mut weights = Shared::<[F4]>::new_slice(comptime!(maps * tile.weight_len()));

    let query_rows = Operand::of(&at.query, &sequence.queries, head, first_row, query_axis);
    let grad_rows = Operand::of(&at.grad, &sequence.queries, head, first_row, grad_axis);
    stage_resident(query, &query_rows, scale, &mut queries, tile);
    stage_resident(grad, &grad_rows, 1.0, &mut grads, tile);

    let (_x, y) = place(tile);
    let mut sums = zeros(comptime!(maps * rows * owned4));
    let bounds = sequence.keys_seen(first_row, tile.tile_rows(), shape.sides);
    let mut first = bounds.start as usize;
    while first < bounds.end as usize {
        let keys = Operand::of(&at.key, &sequence.keys, kv_head, first, key_axis);
        let values = Operand::of(&at.value, &sequence.keys, kv_head, first, value_axis);
        let mut unit = Scores::new(shape);
        multiply_transposed(
            &mut unit.scores,
            &queries,
            key,
            &keys,
            1.0,
            &mut chunk,
            tile,
        );
        multiply_transposed(
            &mut unit.grads,
            &grads,
            value,
            &values,
            1.0,
            &mut chunk,
            tile,
        );
        if bounds.has_edge(first as i32, tile.tile_cols()) {
            let masking = comptime!(shape.masking(RowsAre::Queries));
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
        for i in 0..rows {
            // Read here, not before the loop: the statistics would occupy registers during the products.
            let row = min(first_row + y * rows + i, sequence.queries.len - 1);
            let statistic =
                places.read(statistics, places.at(work.line(head), row), shape.planes());
            #[unroll]
            for j in 0..tile.cols {
                unit.differentiate(&statistic, comptime!(i * tile.cols + j), shape);
            }
        }
        write_maps(&mut weights, &unit.scores, 0usize, maps, tile);
        add_keys(&mut sums, &weights, key, &keys, &mut chunk, shape);
        first += tile.tile_cols();
    }

    let target = Operand::of(
        &at.grad_query,
        &sequence.queries,
        head,
        first_row,
        query_axis,
    );
    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < sequence.queries.len {
            #[unroll]
            for m in 0..maps {
                let first = comptime!((m * rows + i) * owned4);
                store_row(
                    grad_query,
                    &target.of_map(m),
                    row,
                    &sums,
                    scale,
                    first,
                    tile,
                );
            }
        }
    }
}

/// Adds `dS_m K_m` of a tile of keys for every map.
#[cube]
fn add_keys<F: Float, N: Size>(
    sums: &mut Array<F4>,
    weights: &Shared<[F4]>,
    key: &[Vector<F, N>],
    keys: &Operand,
    chunk: &mut Shared<[F4]>,
    #[comptime] shape: GradientShape,
) {
    let (tile, maps) = comptime!((shape.tile, shape.maps));
    let map_sums = comptime!(tile.rows * tile.owned4(shape.head_dim4));
    if comptime!(shape.key_maps == maps) {
        #[unroll]
        for m in 0..maps {
            let one = comptime!(Weights {
                index: m,
                count: 1,
                sum: m * map_sums,
            });
            accumulate(sums, weights, key, &keys.of_map(m), chunk, one, tile);
        }
    } else {
        let all = comptime!(Weights {
            index: 0,
            count: maps,
            sum: 0,
        });
        accumulate(sums, weights, key, keys, chunk, all, tile);
    }
}
