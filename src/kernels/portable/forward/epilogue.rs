//! From what a walk over all keys left to what is written: both maps combined, saved, normalised and stored.
//!
//! A walk over a part of the keys would end otherwise: with its sums and statistics, uncombined, for another kernel.

use cubecl::prelude::*;

use super::kernel::{ForwardStrides, Walked};
use super::shape::ForwardShape;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::portable::operand::{Axis, Operand};
use crate::kernels::portable::tile::{Tile, owned_column4, place};
use crate::kernels::portable::unit::store_row;
use crate::kernels::work::{Sequence, Span, Work};
use crate::math::F4;
use crate::math::layout::{Strides, gamma4};
use crate::math::norm::{inverse_rms, sum_squares};
use crate::math::reduce::{Op, reduce_rows};
use crate::math::softmax::Softmax;

/// Where the unit's results go, and the numbers that make them.
#[derive(CubeType)]
pub(super) struct Ending {
    at: ForwardStrides,
    numbers: ForwardNumbers,
    queries: Span,
    head: usize,
    /// First row of the unit.
    first: usize,
}

#[cube]
impl Ending {
    /// That of this unit.
    pub fn new(
        at: ForwardStrides,
        numbers: ForwardNumbers,
        work: &Work,
        sequence: Sequence,
        #[comptime] tile: Tile,
    ) -> Ending {
        let (_x, y) = place(tile);
        Ending {
            at,
            numbers,
            queries: sequence.queries,
            head: work.head,
            first: work.first_row + y * tile.rows,
        }
    }

    /// The unit's rows of a tensor.
    fn rows(&self, at: &Strides, #[comptime] axis: Axis) -> Operand {
        Operand::of(at, &self.queries, self.head, self.first, axis)
    }
}

/// Combines the maps of every row, and saves what backward needs.
#[cube]
pub(super) fn combine<F: Float, N: Size>(
    ending: &Ending,
    walked: &mut Walked,
    lambda: &[f32],
    saved: &mut [Vector<F, N>],
    lse: &mut [f32],
    #[comptime] shape: ForwardShape,
) {
    #[unroll]
    for i in 0..shape.tile.rows {
        let row = ending.first + i;
        if row < ending.queries.len {
            let lambda_row = lambda_of(ending, lambda, row, shape);
            combine_row(walked, lambda_row, i, shape);
            if comptime!(shape.save_lse) {
                save_lse(ending, lse, &walked.softmax, row, i, shape);
            }
            if comptime!(shape.save_outputs) {
                save_outputs(ending, saved, &walked.sums, row, i, shape);
            }
        }
    }
}

#[cube]
fn lambda_of(ending: &Ending, lambda: &[f32], row: usize, #[comptime] shape: ForwardShape) -> f32 {
    if comptime!(shape.maps == 2) {
        let start = ending.queries.start(&ending.at.lambda, ending.head);
        lambda[start + row * ending.at.lambda.seq as usize]
    } else {
        0.0f32.runtime()
    }
}

/// Of row `row`: sums of map 1 become `O = O_1 − λ O_2`, those of map 2 become `O_2`.
#[cube]
fn combine_row(
    walked: &mut Walked,
    lambda: f32,
    #[comptime] row: usize,
    #[comptime] shape: ForwardShape,
) {
    let rows = comptime!(shape.tile.rows);
    let owned4 = comptime!(shape.owned4());
    #[unroll]
    for c in 0..owned4 {
        let signal = comptime!(row * owned4 + c);
        walked.sums[signal] *= F4::new(walked.softmax.inverse(row));
        if comptime!(shape.maps == 2) {
            let noise = comptime!((rows + row) * owned4 + c);
            walked.sums[noise] *= F4::new(walked.softmax.inverse(comptime!(rows + row)));
            walked.sums[signal] = walked.sums[signal] - walked.sums[noise] * F4::new(lambda);
        }
    }
}

/// Writes the log-sum-exp of each map of the unit's row `i`.
#[cube]
fn save_lse(
    ending: &Ending,
    lse: &mut [f32],
    softmax: &Softmax,
    row: usize,
    #[comptime] i: usize,
    #[comptime] shape: ForwardShape,
) {
    let (x, _y) = place(shape.tile);
    let start = ending.queries.start(&ending.at.lse, ending.head) + row;
    let pair = ending.at.lse.pair as usize;
    if x == 0 {
        #[unroll]
        for m in 0..shape.maps {
            let map_row = comptime!(m * shape.tile.rows + i);
            lse[start + m * pair] = softmax.lse(ending.numbers.unseen, map_row);
        }
    }
}

/// Writes O and O_2 of the unit's row `i`.
#[cube]
fn save_outputs<F: Float, N: Size>(
    ending: &Ending,
    saved: &mut [Vector<F, N>],
    sums: &Array<F4>,
    row: usize,
    #[comptime] i: usize,
    #[comptime] shape: ForwardShape,
) {
    let axis = comptime!(Axis::maps(shape.value_dim4, shape.maps));
    let rows = ending.rows(&ending.at.saved, axis);
    #[unroll]
    for m in 0..shape.maps {
        let first = comptime!((m * shape.tile.rows + i) * shape.owned4());
        store_row(saved, &rows.of_map(m), row, sums, 1.0, first, shape.tile);
    }
}

/// Normalises the unit's rows and multiplies them by the norm's weight.
#[cube]
pub(super) fn normalize(
    ending: &Ending,
    sums: &mut Array<F4>,
    gamma: &[f32],
    scratch: &mut Shared<[f32]>,
    #[comptime] shape: ForwardShape,
) {
    let tile = comptime!(shape.tile);
    let owned4 = comptime!(shape.owned4());
    let (x, _y) = place(tile);
    let mut squares = sum_squares(&*sums, tile.rows, owned4);
    // Units without a row left others of their plane to write theirs: they must be together again to exchange sums.
    sync_cube();
    reduce_rows(
        &mut squares,
        scratch,
        tile.rows,
        tile.units_x,
        tile.exchange,
        Op::Sum,
    );
    #[unroll]
    for i in 0..tile.rows {
        let mean = squares[i] / comptime!(4.0 * shape.value_dim4 as f32);
        let gain = inverse_rms(mean, ending.numbers.eps) * ending.numbers.factor;
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

/// Writes the unit's rows of the output.
#[cube]
pub(super) fn store<F: Float, N: Size>(
    ending: &Ending,
    output: &mut [Vector<F, N>],
    sums: &Array<F4>,
    #[comptime] shape: ForwardShape,
) {
    let rows = ending.rows(&ending.at.output, comptime!(Axis::whole(shape.value_dim4)));
    #[unroll]
    for i in 0..shape.tile.rows {
        let row = ending.first + i;
        if row < ending.queries.len {
            let first = comptime!(i * shape.owned4());
            store_row(output, &rows, row, sums, 1.0, first, shape.tile);
        }
    }
}
