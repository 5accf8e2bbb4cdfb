//! From the sums of a warpgroup to the output: difference of the maps, norm, stores.
//!
//! With two maps the warpgroups of a pair hold O_1 and O_2 of the same rows. Each hands the other half of its columns
//! over, through shared memory, and finishes its own half of the result.

use cubecl::prelude::*;

use super::fragment::{THREADS, column, first_column, in_lower_row, quad_lane, upper_row};
use super::ptx::{
    inverse_sqrt, load_shared, load4_shared, meet, pack, quad_sum, store_shared, store4_shared,
};
use super::shape::HopperShape;
use super::softmax::Softmax;
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

/// The norm's numbers.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Gain {
    pub eps: f32,
    /// 1 − λ_init.
    pub factor: f32,
}

/// The rows of a thread in a tensor that it writes two columns at a time.
#[derive(CubeType, Clone, Copy)]
struct Target {
    /// Pair of columns where each row begins.
    upper: u32,
    lower: u32,
    upper_exists: bool,
    lower_exists: bool,
}

#[cube]
impl Target {
    fn new(at: &Strides, line: &Line, map: u32) -> Target {
        let start = at.offset + line.batch * at.batch + line.head * at.head + map * at.pair;
        let upper = (start + line.row * at.seq + first_column()) / 2u32;
        Target {
            upper,
            lower: upper + 4u32 * at.seq,
            upper_exists: line.row < line.query_len,
            lower_exists: line.row + 8u32 < line.query_len,
        }
    }

    /// Writes two columns of both rows, from column `column` of the thread's on.
    fn write(&self, tensor: &mut [u32], upper: u32, lower: u32, #[comptime] column: usize) {
        let pair = comptime!((column / 2) as u32);
        if self.upper_exists {
            tensor[(self.upper + pair) as usize] = upper;
        }
        if self.lower_exists {
            tensor[(self.lower + pair) as usize] = lower;
        }
    }
}

/// The thread's upper row in the problem.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Line {
    pub batch: u32,
    pub head: u32,
    pub row: u32,
    pub query_len: u32,
}

/// Writes the log-sum-exp of the thread's rows.
#[cube]
pub(crate) fn write_lse(
    lse: &mut [f32],
    softmax: &Softmax,
    at: &Strides,
    line: &Line,
    map: u32,
    scale: f32,
    unseen: f32,
) {
    let start = at.offset + line.batch * at.batch + line.head * at.head + map * at.pair + line.row;
    if quad_lane() == 0u32 {
        if line.row < line.query_len {
            lse[start as usize] = softmax.lse(scale, unseen, 0usize);
        }
        if line.row + 8u32 < line.query_len {
            lse[(start + 8u32) as usize] = softmax.lse(scale, unseen, 1usize);
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
        let row = min(line.row + comptime!(8 * i as u32), line.query_len - 1u32);
        out[i] = lambda[(start + row * at.seq) as usize];
    }
    out
}

/// Finishes the columns that warpgroup `map` of a pair keeps, or without a pair all of them.
#[cube]
pub(crate) fn finish<O: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [u32],
    saved: &mut [u32],
    at: &HopperStrides,
    line: &Line,
    gain: &Gain,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let mut result = if comptime!(shape.maps == 2) {
        subtract::<O>(sums, softmax, lambda, saved, at, line, memory, map, shape)
    } else {
        normalised::<O>(sums, softmax, saved, at, line, shape)
    };
    if comptime!(shape.norm) {
        normalise(&mut result, gamma, gain, memory, map, shape);
    }
    let target = Target::new(&at.output, line, 0u32);
    write_rows(&result, output, &target, map, shape);
}

/// Registers that a warpgroup keeps of a thread's sums.
const fn kept(shape: &HopperShape) -> usize {
    shape.outputs().registers() / shape.maps
}

/// Column of the thread's where warpgroup `map` begins to keep.
const fn kept_column(shape: &HopperShape, map: usize) -> usize {
    map * shape.value_dim / shape.maps
}

/// `O = O_1 − λ O_2` in the kept columns.
#[cube]
fn subtract<O: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    lambda: &[f32],
    saved: &mut [u32],
    at: &HopperStrides,
    line: &Line,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) -> Array<f32> {
    let count = comptime!(kept(&shape));
    let size!(FOUR) = 4;
    // Thread to thread: the other warpgroup's thread of the same number holds the same rows and columns.
    let thread = UNIT_POS % comptime!(THREADS as u32) * 16u32;
    let mine = memory + comptime!((map * shape.exchange_bytes()) as u32) + thread;
    let theirs = memory + comptime!(((1 - map) * shape.exchange_bytes()) as u32) + thread;
    let (upper, lower) = (softmax.inverse(0usize), softmax.inverse(1usize));
    // Both have read their last tiles before one of them overwrites any.
    meet(1u32, comptime!(2 * THREADS as u32));
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
    meet(1u32, comptime!(2 * THREADS as u32));
    let lambda = lambda_rows(lambda, &at.lambda, line);
    let signal = Target::new(&at.saved, line, 0u32);
    let noise = Target::new(&at.saved, line, 1u32);
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for block in 0..comptime!(count / 4) {
        let received = load4_shared::<FOUR>(theirs + comptime!((16 * THREADS * block) as u32));
        let mut second = Array::<f32>::new(4usize);
        #[unroll]
        for j in 0..4usize {
            let inverse = if comptime!(in_lower_row(j)) {
                lower
            } else {
                upper
            };
            let own = sums.extract(comptime!(map * count + 4 * block + j)) * inverse;
            let other = received.extract(j);
            let first = if comptime!(map == 0) { own } else { other };
            second[j] = if comptime!(map == 0) { other } else { own };
            out[comptime!(4 * block + j)] = fma(-lambda[comptime!(j / 2)], second[j], first);
        }
        if comptime!(shape.save_outputs) {
            let column = comptime!(kept_column(&shape, map) + 8 * block);
            write_block(saved, &noise, &second, 0usize, column, shape);
            write_block(saved, &signal, &out, comptime!(4 * block), column, shape);
        }
    }
    out
}

/// `O = P V` of standard attention.
#[cube]
fn normalised<O: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    saved: &mut [u32],
    at: &HopperStrides,
    line: &Line,
    #[comptime] shape: HopperShape,
) -> Array<f32> {
    let count = comptime!(kept(&shape));
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
        let target = Target::new(&at.saved, line, 0u32);
        write_rows(&out, saved, &target, 0usize, shape);
    }
    out
}

/// `γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)`
#[cube]
fn normalise(
    values: &mut Array<f32>,
    gamma: &[f32],
    gain: &Gain,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let count = comptime!(kept(&shape));
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
        let mine = memory + comptime!(shape.row_sums(map) as u32) + row;
        let theirs = memory + comptime!(shape.row_sums(1 - map) as u32) + row;
        if quad_lane() == 0u32 {
            store_shared(mine, upper);
            store_shared(mine + 32u32, lower);
        }
        meet(1u32, comptime!(2 * THREADS as u32));
        upper += load_shared(theirs);
        lower += load_shared(theirs + 32u32);
    }
    let share = comptime!(1.0 / shape.value_dim as f32);
    upper = inverse_sqrt(fma(upper, share, gain.eps)) * gain.factor;
    lower = inverse_sqrt(fma(lower, share, gain.eps)) * gain.factor;
    #[unroll]
    for i in 0..count {
        values[i] *= if comptime!(in_lower_row(i)) {
            lower
        } else {
            upper
        };
        if comptime!(shape.gamma) {
            let column = comptime!((kept_column(&shape, map) + column(i)) as u32);
            values[i] *= gamma[(first_column() + column) as usize];
        }
    }
}

/// Writes the kept columns, all of them.
#[cube]
fn write_rows(
    values: &Array<f32>,
    tensor: &mut [u32],
    target: &Target,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    #[unroll]
    for block in 0..comptime!(kept(&shape) / 4) {
        let column = comptime!(kept_column(&shape, map) + 8 * block);
        write_block(tensor, target, values, comptime!(4 * block), column, shape);
    }
}

/// Writes four values from `first` on, which are two neighbours in the upper row and two in the lower.
#[cube]
fn write_block(
    tensor: &mut [u32],
    target: &Target,
    values: &Array<f32>,
    #[comptime] first: usize,
    #[comptime] column: usize,
    #[comptime] shape: HopperShape,
) {
    let upper = pack(
        values[first],
        values[comptime!(first + 1)],
        comptime!(shape.half),
    );
    let lower = pack(
        values[comptime!(first + 2)],
        values[comptime!(first + 3)],
        comptime!(shape.half),
    );
    target.write(tensor, upper, lower, column);
}
