//! From the sums of a warpgroup to the output: difference of the maps, norm, stores.
//!
//! With two maps the warpgroups of a pair hold O_1 and O_2 of the same rows. Each hands the other half of its columns
//! over, through shared memory, and finishes its own half of the result.

use cubecl::prelude::*;

use super::shape::HopperShape;
use crate::kernels::hopper::accumulator::{THREADS, upper_row};
use crate::kernels::hopper::barriers::meet_pair;
use crate::kernels::warp::fragment::{column, first_column, in_lower_row, quad_lane};
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::{
    inverse_sqrt, load_shared, load4_shared, quad_sum, store_shared, store4_shared,
};
use crate::kernels::warp::softmax::Softmax;
use crate::math::layout::Strides;

/// Where the kernel's outputs, and λ, lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct HopperStrides {
    pub lambda: Strides,
    pub output: Strides,
    /// `[B, Nq, H, maps, dv]`: O and O_2.
    pub saved: Strides,
    /// `[B, H, maps, Nq]`.
    pub lse: Strides,
}

/// What the epilogue reads and writes.
#[derive(CubeType)]
pub(crate) struct Outputs<'a, W: Size> {
    pub lambda: &'a [f32],
    pub gamma: &'a [f32],
    pub output: &'a mut [Vector<u32, W>],
    pub saved: &'a mut [Vector<u32, W>],
    pub lse: &'a mut [f32],
    pub at: HopperStrides,
    pub gain: Gain,
}

#[cube]
impl<'a, W: Size> Outputs<'a, W> {
    pub fn new(
        lambda: &'a [f32],
        gamma: &'a [f32],
        output: &'a mut [Vector<u32, W>],
        saved: &'a mut [Vector<u32, W>],
        lse: &'a mut [f32],
        at: HopperStrides,
        gain: Gain,
    ) -> Outputs<'a, W> {
        Outputs::<'a, W> {
            lambda,
            gamma,
            output,
            saved,
            lse,
            at,
            gain,
        }
    }
}

/// The norm's numbers.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Gain {
    pub eps: f32,
    /// 1 − λ_init.
    pub factor: f32,
}

/// `1 / √square`, and 0 for 0: a row of zeros in a norm without eps stays zero. What the instruction would flush to zero is 0.
#[cube]
fn inverse_root(square: f32) -> f32 {
    let positive = square >= comptime!(f32::MIN_POSITIVE);
    select(positive, inverse_sqrt(square), 0.0f32.runtime())
}

/// Writes the log-sum-exp of the thread's rows.
#[cube]
pub(crate) fn write_lse<W: Size>(
    outputs: &mut Outputs<W>,
    softmax: &Softmax,
    line: &Line,
    map: u32,
    scale: f32,
    unseen: f32,
) {
    let at = &outputs.at.lse;
    let start = at.offset + line.batch * at.batch + line.head * at.head + map * at.pair + line.row;
    if quad_lane() == 0u32 {
        if line.row < line.len {
            outputs.lse[start as usize] = softmax.lse(scale, unseen, 0usize);
        }
        if line.row + 8u32 < line.len {
            outputs.lse[(start + 8u32) as usize] = softmax.lse(scale, unseen, 1usize);
        }
    }
}

/// λ of the thread's rows.
#[cube]
fn lambda_rows(lambda: &[f32], at: &Strides, line: &Line) -> Array<f32> {
    let mut out = Array::<f32>::new(2usize);
    let start = at.offset + line.batch * at.batch + line.head * at.head;
    #[unroll]
    for i in 0..2usize {
        let row = min(line.row + comptime!(8 * i as u32), line.len - 1u32);
        out[i] = lambda[(start + row * at.seq) as usize];
    }
    out
}

/// Finishes the columns that warpgroup `map` of a pair keeps, or without a pair all of them.
#[cube]
pub(crate) fn finish<O: Size, W: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    outputs: &mut Outputs<W>,
    line: &Line,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let mut result = if comptime!(shape.maps == 2) {
        subtract::<O, W>(sums, softmax, outputs, line, memory, map, shape)
    } else {
        normalised::<O, W>(sums, softmax, outputs, line, shape)
    };
    if comptime!(shape.norm) {
        normalise::<W>(&mut result, outputs, memory, map, shape);
    }
    let target = Target::new(&outputs.at.output, line, 0u32, comptime!(shape.writing()));
    let column = comptime!(kept_column(&shape, map));
    target.write::<W>(
        outputs.output,
        &result,
        0usize,
        column,
        comptime!(shape.kept()),
    );
}

/// Column of the thread's where warpgroup `map` begins to keep.
const fn kept_column(shape: &HopperShape, map: usize) -> usize {
    map * shape.value_dim / shape.maps
}

/// `O = O_1 − λ O_2` in the kept columns.
#[cube]
fn subtract<O: Size, W: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    outputs: &mut Outputs<W>,
    line: &Line,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) -> Array<f32> {
    let count = comptime!(shape.kept());
    let size!(FOUR) = 4;
    // Thread to thread: the other warpgroup's thread of the same number holds the same rows and columns.
    let thread = UNIT_POS % comptime!(THREADS as u32) * 16u32;
    let mine = memory + comptime!((map * shape.exchange_bytes()) as u32) + thread;
    let theirs = memory + comptime!(((1 - map) * shape.exchange_bytes()) as u32) + thread;
    let (upper, lower) = (softmax.inverse(0usize), softmax.inverse(1usize));
    // Both have read their last tiles before one of them overwrites any.
    meet_pair();
    #[unroll]
    for block in 0..comptime!(count / 4) {
        let i = comptime!((1 - map) * count + 4 * block);
        store4_shared(
            mine + comptime!((16 * THREADS * block) as u32),
            sums.extract(i) * upper,
            sums.extract(comptime!(i + 1)) * upper,
            sums.extract(comptime!(i + 2)) * lower,
            sums.extract(comptime!(i + 3)) * lower,
        );
    }
    meet_pair();
    let lambda = lambda_rows(outputs.lambda, &outputs.at.lambda, line);
    let signal = Target::new(&outputs.at.saved, line, 0u32, comptime!(shape.writing()));
    let noise = Target::new(&outputs.at.saved, line, 1u32, comptime!(shape.writing()));
    let mut out = Array::<f32>::new(count);
    let mut second = Array::<f32>::new(count);
    #[unroll]
    for block in 0..comptime!(count / 4) {
        let received = load4_shared::<FOUR>(theirs + comptime!((16 * THREADS * block) as u32));
        #[unroll]
        for j in 0..4usize {
            let i = comptime!(4 * block + j);
            let inverse = if comptime!(in_lower_row(j)) {
                lower
            } else {
                upper
            };
            let own = sums.extract(comptime!(map * count + i)) * inverse;
            let other = received.extract(j);
            let first = if comptime!(map == 0) { own } else { other };
            second[i] = if comptime!(map == 0) { other } else { own };
            out[i] = fma(
                -lambda[comptime!(usize::from(in_lower_row(j)))],
                second[i],
                first,
            );
        }
        if comptime!(shape.save_outputs && (4 * block + 4) % shape.written() == 0) {
            let first = comptime!(4 * block + 4 - shape.written());
            let column = comptime!(kept_column(&shape, map) + 2 * first);
            noise.write_some::<W>(outputs.saved, &second, first, column);
            signal.write_some::<W>(outputs.saved, &out, first, column);
        }
    }
    out
}

/// `O = P V` of standard attention.
#[cube]
fn normalised<O: Size, W: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    outputs: &mut Outputs<W>,
    line: &Line,
    #[comptime] shape: HopperShape,
) -> Array<f32> {
    let count = comptime!(shape.kept());
    let (upper, lower) = (softmax.inverse(0usize), softmax.inverse(1usize));
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        out[i] = sums.extract(i)
            * if comptime!(in_lower_row(i)) {
                lower
            } else {
                upper
            };
    }
    if comptime!(shape.save_outputs) {
        let target = Target::new(&outputs.at.saved, line, 0u32, comptime!(shape.writing()));
        target.write::<W>(outputs.saved, &out, 0usize, 0usize, count);
    }
    out
}

/// `γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)`
#[cube]
fn normalise<W: Size>(
    values: &mut Array<f32>,
    outputs: &mut Outputs<W>,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let count = comptime!(shape.kept());
    let mut upper = 0.0f32.runtime();
    let mut lower = 0.0f32.runtime();
    #[unroll]
    for i in 0..count {
        if comptime!(in_lower_row(i)) {
            lower = fma(values[i], values[i], lower);
        } else {
            upper = fma(values[i], values[i], upper);
        }
    }
    upper = quad_sum(upper);
    lower = quad_sum(lower);
    if comptime!(shape.maps == 2) {
        // The other half of the columns is the other warpgroup's.
        let row = upper_row() * 4u32;
        let mine = memory + comptime!(shape.layout().row_sums[map] as u32) + row;
        let theirs = memory + comptime!(shape.layout().row_sums[1 - map] as u32) + row;
        if quad_lane() == 0u32 {
            store_shared(mine, upper);
            store_shared(mine + 32u32, lower);
        }
        meet_pair();
        upper += load_shared(theirs);
        lower += load_shared(theirs + 32u32);
    }
    let share = comptime!(1.0 / shape.value_dim as f32);
    upper = inverse_root(fma(upper, share, outputs.gain.eps)) * outputs.gain.factor;
    lower = inverse_root(fma(lower, share, outputs.gain.eps)) * outputs.gain.factor;
    #[unroll]
    for i in 0..count {
        values[i] *= if comptime!(in_lower_row(i)) {
            lower
        } else {
            upper
        };
        if comptime!(shape.gamma) {
            let column = comptime!((kept_column(&shape, map) + column(i)) as u32);
            values[i] *= outputs.gamma[(first_column() + column) as usize];
        }
    }
}
