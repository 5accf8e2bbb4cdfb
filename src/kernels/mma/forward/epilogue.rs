//! From the sums of a warp to the output: difference of the maps, norm, stores.
//!
//! Where two warps have a map each of the same rows, each hands the other half of its columns over, through shared memory,
//! and finishes its own half of the result.

use cubecl::prelude::*;

use super::kernel::MmaForwardStrides;
use super::shape::MmaForwardShape;
use crate::kernels::mma::warp::warp_map;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::warp::fragment::{column, first_column, in_lower_row, quad_lane};
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::{
    inverse_sqrt, load_shared, load4_shared, quad_sum, store_shared, store4_shared,
};
use crate::kernels::warp::softmax::Softmax;
use crate::math::F4;
use crate::math::layout::Strides;

/// What a warp knows of its rows beside their sums.
#[derive(CubeType)]
pub(crate) struct Outputs {
    pub signal: Softmax,
    /// Of the second map, where the warp has both.
    pub noise: Softmax,
    pub scale: f32,
    pub memory: u32,
    pub line: Line,
}

/// Finishes the columns that the warp keeps.
#[cube]
pub(crate) fn finish<W: Size>(
    outputs: &mut Outputs,
    sums: &Array<F4>,
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<u32, W>],
    saved: &mut [Vector<u32, W>],
    lse: &mut [f32],
    at: &MmaForwardStrides,
    numbers: &ForwardNumbers,
    #[comptime] shape: MmaForwardShape,
) {
    outputs.signal.finish();
    if comptime!(shape.dims.warp_maps() == 2) {
        outputs.noise.finish();
    }
    if comptime!(shape.save_lse) {
        outputs.write_lse(lse, &at.lse, numbers.unseen, shape);
    }
    let mut result = if comptime!(shape.dims.splits()) {
        outputs.exchange::<W>(sums, lambda, saved, at, shape)
    } else if comptime!(shape.dims.maps == 2) {
        outputs.subtract::<W>(sums, lambda, saved, at, shape)
    } else {
        outputs.normalised::<W>(sums, saved, at, shape)
    };
    if comptime!(shape.norm) {
        outputs.normalise(&mut result, gamma, numbers, shape);
    }
    let target = outputs.target(&at.output, 0u32.runtime(), shape);
    let count = comptime!(shape.kept() / 2);
    target.write::<W>(output, &result, 0usize, 0usize, count);
}

/// First column that the warp keeps.
#[cube]
fn kept_column(#[comptime] shape: MmaForwardShape) -> u32 {
    warp_map(shape.dims) * comptime!(shape.kept() as u32)
}

#[cube]
impl Outputs {
    /// The thread's rows in a tensor of outputs, from the first column that the warp keeps.
    fn target(&self, at: &Strides, map: u32, #[comptime] shape: MmaForwardShape) -> Target {
        let kept = Strides {
            offset: at.offset + kept_column(shape),
            batch: at.batch,
            seq: at.seq,
            head: at.head,
            pair: at.pair,
        };
        Target::new(&kept, &self.line, map, shape.writing())
    }

    /// Writes the log-sum-exps of the thread's rows.
    fn write_lse(
        &self,
        lse: &mut [f32],
        at: &Strides,
        unseen: f32,
        #[comptime] shape: MmaForwardShape,
    ) {
        let line = &self.line;
        let start = at.offset + line.batch * at.batch + line.head * at.head + line.row;
        let start = start + warp_map(shape.dims) * at.pair;
        if quad_lane() == 0u32 {
            #[unroll]
            for i in 0..2usize {
                if line.row + comptime!(8 * i as u32) < line.len {
                    let to = start + comptime!(8 * i as u32);
                    lse[to as usize] = self.signal.lse(self.scale, unseen, i);
                    if comptime!(shape.dims.warp_maps() == 2) {
                        lse[(to + at.pair) as usize] = self.noise.lse(self.scale, unseen, i);
                    }
                }
            }
        }
    }

    /// λ of the thread's rows.
    fn lambdas(&self, lambda: &[f32], at: &Strides) -> Array<f32> {
        let line = &self.line;
        let mut out = Array::<f32>::new(2usize);
        let start = at.offset + line.batch * at.batch + line.head * at.head;
        #[unroll]
        for i in 0..2usize {
            let row = min(line.row + comptime!(8 * i as u32), line.len - 1u32);
            out[i] = lambda[(start + row * at.seq) as usize];
        }
        out
    }

    /// `O = O_1 − λ O_2` where the warp has both maps.
    fn subtract<W: Size>(
        &self,
        sums: &Array<F4>,
        lambda: &[f32],
        saved: &mut [Vector<u32, W>],
        at: &MmaForwardStrides,
        #[comptime] shape: MmaForwardShape,
    ) -> Array<f32> {
        let count = comptime!(shape.kept() / 2);
        let lambdas = self.lambdas(lambda, &at.lambda);
        let mut out = Array::<f32>::new(count);
        let mut second = Array::<f32>::new(count);
        #[unroll]
        for i in 0..count {
            let row = comptime!(usize::from(in_lower_row(i)));
            let (block, e) = comptime!((i / 4, i % 4));
            let first = sums[block].extract(e) * self.signal.inverse(row);
            second[i] = sums[comptime!(count / 4 + block)].extract(e) * self.noise.inverse(row);
            out[i] = fma(-lambdas[row], second[i], first);
        }
        if comptime!(shape.save_outputs) {
            let signal = self.target(&at.saved, 0u32.runtime(), shape);
            let noise = self.target(&at.saved, 1u32.runtime(), shape);
            signal.write::<W>(saved, &out, 0usize, 0usize, count);
            noise.write::<W>(saved, &second, 0usize, 0usize, count);
        }
        out
    }

    /// The same where another warp has the other map.
    fn exchange<W: Size>(
        &self,
        sums: &Array<F4>,
        lambda: &[f32],
        saved: &mut [Vector<u32, W>],
        at: &MmaForwardStrides,
        #[comptime] shape: MmaForwardShape,
    ) -> Array<f32> {
        let count = comptime!(shape.kept() / 2);
        let size!(FOUR) = 4;
        let is_noise = warp_map(shape.dims) == 1u32;
        let mine = self.exchange_start(UNIT_POS / 32u32, shape);
        let theirs = self.exchange_start((UNIT_POS / 32u32) ^ 1u32, shape);
        let (upper, lower) = (self.signal.inverse(0usize), self.signal.inverse(1usize));
        let mut own = Array::<f32>::new(count);
        #[unroll]
        for block in 0..comptime!(count / 4) {
            let (a, b) = (sums[block], sums[comptime!(count / 4 + block)]);
            let mut given = Array::<f32>::new(4usize);
            #[unroll]
            for e in 0..4usize {
                let inverse = if comptime!(in_lower_row(e)) {
                    lower
                } else {
                    upper
                };
                given[e] = select(is_noise, a.extract(e), b.extract(e)) * inverse;
                own[comptime!(4 * block + e)] =
                    select(is_noise, b.extract(e), a.extract(e)) * inverse;
            }
            let to = mine + comptime!(512 * block as u32);
            store4_shared(to, given[0], given[1], given[2], given[3]);
        }
        sync_cube();
        let lambdas = self.lambdas(lambda, &at.lambda);
        let signal = self.target(&at.saved, 0u32.runtime(), shape);
        let noise = self.target(&at.saved, 1u32.runtime(), shape);
        let mut second = Array::<f32>::new(count);
        #[unroll]
        for block in 0..comptime!(count / 4) {
            let received = load4_shared::<FOUR>(theirs + comptime!(512 * block as u32));
            #[unroll]
            for e in 0..4usize {
                let i = comptime!(4 * block + e);
                let (mine, other) = (own[i], received.extract(e));
                second[i] = select(is_noise, mine, other);
                let first = select(is_noise, other, mine);
                own[i] = fma(
                    -lambdas[comptime!(usize::from(in_lower_row(e)))],
                    second[i],
                    first,
                );
            }
            if comptime!(shape.save_outputs && (4 * block + 4) % shape.writing().registers() == 0) {
                let first = comptime!(4 * block + 4 - shape.writing().registers());
                noise.write_some::<W>(saved, &second, first, comptime!(2 * first));
                signal.write_some::<W>(saved, &own, first, comptime!(2 * first));
            }
        }
        own
    }

    /// Where the thread's part of what a warp hands over begins: thread to thread, as the other warp's thread of the same
    /// number has the same rows and columns.
    fn exchange_start(&self, warp: u32, #[comptime] shape: MmaForwardShape) -> u32 {
        let warp = warp * comptime!(shape.exchange_bytes() as u32);
        self.memory + warp + UNIT_POS % 32u32 * 16u32
    }

    /// `O = P V` of standard attention.
    fn normalised<W: Size>(
        &self,
        sums: &Array<F4>,
        saved: &mut [Vector<u32, W>],
        at: &MmaForwardStrides,
        #[comptime] shape: MmaForwardShape,
    ) -> Array<f32> {
        let count = comptime!(shape.kept() / 2);
        let mut out = Array::<f32>::new(count);
        #[unroll]
        for i in 0..count {
            let inverse = self.signal.inverse(comptime!(usize::from(in_lower_row(i))));
            out[i] = sums[comptime!(i / 4)].extract(comptime!(i % 4)) * inverse;
        }
        if comptime!(shape.save_outputs) {
            let target = self.target(&at.saved, 0u32.runtime(), shape);
            target.write::<W>(saved, &out, 0usize, 0usize, count);
        }
        out
    }

    /// `γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)`
    fn normalise(
        &self,
        values: &mut Array<f32>,
        gamma: &[f32],
        numbers: &ForwardNumbers,
        #[comptime] shape: MmaForwardShape,
    ) {
        let count = comptime!(shape.kept() / 2);
        let mut squares = Array::<f32>::new(2usize);
        squares[0] = 0.0f32.runtime();
        squares[1] = 0.0f32.runtime();
        #[unroll]
        for i in 0..count {
            let row = comptime!(usize::from(in_lower_row(i)));
            squares[row] = fma(values[i], values[i], squares[row]);
        }
        squares[0] = quad_sum(squares[0]);
        squares[1] = quad_sum(squares[1]);
        if comptime!(shape.dims.splits()) {
            self.add_others(&mut squares, shape);
        }
        let share = comptime!(1.0 / shape.dims.value_dim as f32);
        let upper = inverse_rms(fma(squares[0], share, numbers.eps)) * numbers.factor;
        let lower = inverse_rms(fma(squares[1], share, numbers.eps)) * numbers.factor;
        let first = first_column() + kept_column(shape);
        #[unroll]
        for i in 0..count {
            values[i] *= if comptime!(in_lower_row(i)) {
                lower
            } else {
                upper
            };
            if comptime!(shape.gamma) {
                values[i] *= gamma[(first + comptime!(column(i) as u32)) as usize];
            }
        }
    }

    /// Adds the sums of squares of the columns that the other warp keeps.
    fn add_others(&self, squares: &mut Array<f32>, #[comptime] shape: MmaForwardShape) {
        let sums =
            self.memory + comptime!(shape.row_sums() as u32) + UNIT_POS % 32u32 / 4u32 * 4u32;
        let warp = UNIT_POS / 32u32;
        let mine = sums + warp * 64u32;
        let theirs = sums + (warp ^ 1u32) * 64u32;
        if quad_lane() == 0u32 {
            store_shared(mine, squares[0]);
            store_shared(mine + 32u32, squares[1]);
        }
        sync_cube();
        squares[0] += load_shared(theirs);
        squares[1] += load_shared(theirs + 32u32);
    }
}

/// `1 / √square`, and 0 for 0: a row of zeros in a norm without eps stays zero.
#[cube]
fn inverse_rms(square: f32) -> f32 {
    let positive = square >= comptime!(f32::MIN_POSITIVE);
    select(positive, inverse_sqrt(square), 0.0f32.runtime())
}
