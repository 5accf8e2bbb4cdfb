//! Forward: a tile of queries walks the key tiles once, with one online softmax for each map.

use cubecl::prelude::*;

use super::shape::ForwardShape;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::portable::product::{accumulate, multiply_transposed, write_weights};
use crate::kernels::portable::rows::{RowsAre, filled, mask, store_row, zeros};
use crate::kernels::portable::stage::{Axis, Rows, stage_resident};
use crate::kernels::portable::tile::{owned_column4, place};
use crate::math::F4;
use crate::math::layout::{Strides, gamma4};
use crate::math::mask::Band;
use crate::math::norm::{inverse_rms, sum_squares};
use crate::math::reduce::{Op, reduce_rows};
use crate::math::softmax::Softmax;

/// Where the forward's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct ForwardStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    pub lambda: Strides,
    pub output: Strides,
    /// `[B, Nq, H, maps, dv]`: O and O_2.
    pub saved: Strides,
    /// `[B, H, maps, Nq]`.
    pub lse: Strides,
}

/// Grid: (query tiles, query heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_forward<F: Float, N: Size>(
    query: &[Vector<F, N>],
    key: &[Vector<F, N>],
    value: &[Vector<F, N>],
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<F, N>],
    saved: &mut [Vector<F, N>],
    lse: &mut [f32],
    at: ForwardStrides,
    band: Band,
    numbers: ForwardNumbers,
    #[comptime] shape: ForwardShape,
    #[define(F)] _dtype: ElemType,
) {
    let tile = comptime!(shape.tile);
    let maps = comptime!(shape.maps);
    let rows = comptime!(tile.rows);
    let head = CUBE_POS_Y as usize;
    let batch = CUBE_POS_Z as usize;
    let kv_head = head / numbers.group as usize;
    let query_len = band.query_len as usize;
    let key_len = band.key_len as usize;
    let first_row = reversed(CUBE_POS_X as usize, CUBE_COUNT_X as usize) * tile.tile_rows();

    let key_axis = comptime!(Axis::maps(shape.head_dim4, shape.key_maps));
    let query_axis = comptime!(Axis::maps(shape.head_dim4, maps));
    let value_axis = comptime!(Axis::halves(shape.value_dim4));
    let whole_value = comptime!(Axis::whole(shape.value_dim4));
    let owned4 = comptime!(tile.owned4(shape.value_dim4));

    let mut queries =
        Shared::<[F4]>::new_slice(comptime!(maps * tile.resident_len(shape.head_dim4)));
    let mut chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(shape.key_maps)));
    let mut weights = Shared::<[F4]>::new_slice(comptime!(maps * tile.weight_len()));
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(tile.scratch_len(maps * rows)));

    let query_rows = Rows::of(&at.query, batch, head, first_row, query_len);
    stage_resident(
        query,
        &query_rows,
        numbers.scale,
        &mut queries,
        query_axis,
        tile,
    );

    let mut softmax = Softmax::new(comptime!(shape.softmax()));
    let mut sums = zeros(comptime!(maps * rows * owned4));

    let last_row = min(first_row + tile.tile_rows(), query_len) - 1;
    let bounds = band.keys(first_row as i32, last_row as i32, shape.sides);
    let mut first_key = bounds.start as usize;
    while first_key < bounds.end as usize {
        let key_rows = Rows::of(&at.key, batch, kv_head, first_key, key_len);
        let value_rows = Rows::of(&at.value, batch, kv_head, first_key, key_len);

        let mut scores = filled(0.0, comptime!(maps * rows * tile.cols));
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
        let decay = softmax.update(&mut scores, &mut scratch, comptime!(shape.softmax()));
        #[unroll]
        for r in 0..comptime!(maps * rows) {
            #[unroll]
            for c in 0..owned4 {
                sums[comptime!(r * owned4 + c)] *= F4::new(decay[r]);
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
        accumulate(
            &mut sums,
            &weights,
            value,
            &value_rows,
            &mut chunk,
            maps,
            0usize,
            0usize,
            value_axis,
            tile,
        );
        first_key += tile.tile_cols();
    }
    softmax.finish(&mut scratch, comptime!(shape.softmax()));

    let (x, y) = place(tile);
    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < query_len {
            let lambda_row = lambda_of(lambda, &at.lambda, batch, head, row, shape);
            combine_row(&mut sums, &softmax, lambda_row, i, owned4, shape);
            if comptime!(shape.save_lse) {
                save_lse(
                    lse,
                    &softmax,
                    at.lse.start(batch, head) + row,
                    at.lse.pair as usize,
                    numbers.unseen,
                    i,
                    shape,
                );
            }
            if comptime!(shape.save_outputs) {
                #[unroll]
                for m in 0..maps {
                    let start = at.saved.start(batch, head)
                        + row * at.saved.seq as usize
                        + m * at.saved.pair as usize;
                    store_row(
                        saved,
                        start,
                        0,
                        &sums,
                        1.0,
                        comptime!((m * rows + i) * owned4),
                        whole_value,
                        tile,
                    );
                }
            }
        }
    }
    if comptime!(shape.norm) {
        let mut squares = sum_squares(&sums, rows, owned4);
        // Units without a row left others of their plane to write theirs: they must be together again to exchange sums.
        sync_cube();
        reduce_rows(
            &mut squares,
            &mut scratch,
            rows,
            tile.units_x,
            tile.exchange,
            Op::Sum,
        );
        #[unroll]
        for i in 0..rows {
            let mean = squares[i] / comptime!(4.0 * shape.value_dim4 as f32);
            let gain = inverse_rms(mean, numbers.eps) * numbers.factor;
            #[unroll]
            for c in 0..owned4 {
                let at = comptime!(i * owned4 + c);
                sums[at] *= F4::new(gain);
                if comptime!(shape.gamma) {
                    sums[at] *= gamma4(gamma, owned_column4(x, c, tile), shape.value_dim4);
                }
            }
        }
    }
    #[unroll]
    for i in 0..rows {
        let row = first_row + y * rows + i;
        if row < query_len {
            let start = at.output.start(batch, head) + row * at.output.seq as usize;
            store_row(
                output,
                start,
                0,
                &sums,
                1.0,
                comptime!(i * owned4),
                whole_value,
                tile,
            );
        }
    }
}

/// Tiles in descending order: under a causal mask the last ones work longest, so they start first.
#[cube]
fn reversed(position: usize, count: usize) -> usize {
    count - 1 - position
}

#[cube]
fn lambda_of(
    lambda: &[f32],
    at: &Strides,
    batch: usize,
    head: usize,
    row: usize,
    #[comptime] shape: ForwardShape,
) -> f32 {
    if comptime!(shape.maps == 2) {
        lambda[at.start(batch, head) + row * at.seq as usize]
    } else {
        0.0f32.runtime()
    }
}

/// Of row `row`: sums of map 1 become `O = O_1 − λ O_2`, those of map 2 become `O_2`.
#[cube]
fn combine_row(
    sums: &mut Array<F4>,
    softmax: &Softmax,
    lambda: f32,
    #[comptime] row: usize,
    #[comptime] owned4: usize,
    #[comptime] shape: ForwardShape,
) {
    let rows = comptime!(shape.tile.rows);
    #[unroll]
    for c in 0..owned4 {
        let signal = comptime!(row * owned4 + c);
        sums[signal] *= F4::new(softmax.inverse(row));
        if comptime!(shape.maps == 2) {
            let noise = comptime!((rows + row) * owned4 + c);
            sums[noise] *= F4::new(softmax.inverse(comptime!(rows + row)));
            sums[signal] = sums[signal] - sums[noise] * F4::new(lambda);
        }
    }
}

#[cube]
fn save_lse(
    lse: &mut [f32],
    softmax: &Softmax,
    at: usize,
    pair: usize,
    unseen: f32,
    #[comptime] row: usize,
    #[comptime] shape: ForwardShape,
) {
    let (x, _y) = place(shape.tile);
    if x == 0 {
        #[unroll]
        for m in 0..shape.maps {
            lse[at + m * pair] = softmax.lse(unseen, comptime!(m * shape.tile.rows + row));
        }
    }
}
