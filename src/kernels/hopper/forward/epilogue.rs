//! From the sums of a warpgroup to the output: difference of the maps, norm, stores.
//!
//! With two maps the warpgroups of a pair hold O_1 and O_2 of the same rows. Each hands the other half of its columns
//! over, through shared memory, and finishes its own half of the result.

use cubecl::prelude::*;

use super::shape::HopperShape;
use crate::kernels::hopper::accumulator::{THREADS, upper_row};
use crate::kernels::warp::fragment::{
    column, first_column, in_lower_row, quad_lane, transpose_quad,
};
use crate::kernels::warp::ptx::{
    inverse_sqrt, load_shared, load4_shared, meet, pack, quad_sum, store_shared, store4_shared,
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

/// The norm's numbers.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Gain {
    pub eps: f32,
    /// 1 − λ_init.
    pub factor: f32,
}

/// The rows of a thread in a tensor that it writes, a vector of words of two columns at a time.
#[derive(CubeType, Clone, Copy)]
struct Target {
    /// Vector with the thread's first columns of each row.
    upper: u32,
    lower: u32,
    upper_exists: bool,
    lower_exists: bool,
}

#[cube]
impl Target {
    fn new(at: &Strides, line: &Line, map: u32, #[comptime] wide: bool) -> Target {
        let start = at.offset + line.batch * at.batch + line.head * at.head + map * at.pair;
        let row = start + line.row * at.seq;
        // Of four times eight columns, each thread of four writes eight.
        let upper = if comptime!(wide) {
            row / 8u32 + quad_lane()
        } else {
            (row + first_column()) / 2u32
        };
        let below = if comptime!(wide) {
            at.seq
        } else {
            4u32 * at.seq
        };
        Target {
            upper,
            lower: upper + below,
            upper_exists: line.row < line.query_len,
            lower_exists: line.row + 8u32 < line.query_len,
        }
    }

    /// Writes a vector to each of both rows, `skip` vectors after the thread's first.
    fn write<W: Size>(
        &self,
        tensor: &mut [Vector<u32, W>],
        upper: Vector<u32, W>,
        lower: Vector<u32, W>,
        #[comptime] skip: usize,
    ) {
        if self.upper_exists {
            tensor[(self.upper + comptime!(skip as u32)) as usize] = upper;
        }
        if self.lower_exists {
            tensor[(self.lower + comptime!(skip as u32)) as usize] = lower;
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

/// `1 / √square`, and 0 for 0: a row of zeros in a norm without eps stays zero.
#[cube]
fn inverse_rms(square: f32) -> f32 {
    let positive = square >= comptime!(f32::MIN_POSITIVE);
    select(positive, inverse_sqrt(square), 0.0f32.runtime())
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
pub(crate) fn finish<O: Size, W: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<u32, W>],
    saved: &mut [Vector<u32, W>],
    at: &HopperStrides,
    line: &Line,
    gain: &Gain,
    memory: u32,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let mut result = if comptime!(shape.maps == 2) {
        subtract::<O, W>(sums, softmax, lambda, saved, at, line, memory, map, shape)
    } else {
        normalised::<O, W>(sums, softmax, saved, at, line, shape)
    };
    if comptime!(shape.norm) {
        normalise(&mut result, gamma, gain, memory, map, shape);
    }
    let target = Target::new(&at.output, line, 0u32, comptime!(shape.wide));
    write_rows::<W>(&result, output, &target, map, shape);
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
    lambda: &[f32],
    saved: &mut [Vector<u32, W>],
    at: &HopperStrides,
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
    let signal = Target::new(&at.saved, line, 0u32, comptime!(shape.wide));
    let noise = Target::new(&at.saved, line, 1u32, comptime!(shape.wide));
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
            write_some::<W>(saved, &noise, &second, first, map, shape);
            write_some::<W>(saved, &signal, &out, first, map, shape);
        }
    }
    out
}

/// `O = P V` of standard attention.
#[cube]
fn normalised<O: Size, W: Size>(
    sums: Vector<f32, O>,
    softmax: &Softmax,
    saved: &mut [Vector<u32, W>],
    at: &HopperStrides,
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
        let target = Target::new(&at.saved, line, 0u32, comptime!(shape.wide));
        write_rows::<W>(&out, saved, &target, 0usize, shape);
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
    upper = inverse_rms(fma(upper, share, gain.eps)) * gain.factor;
    lower = inverse_rms(fma(lower, share, gain.eps)) * gain.factor;
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
fn write_rows<W: Size>(
    values: &Array<f32>,
    tensor: &mut [Vector<u32, W>],
    target: &Target,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    #[unroll]
    for i in 0..comptime!(shape.kept() / shape.written()) {
        let first = comptime!(i * shape.written());
        write_some::<W>(tensor, target, values, first, map, shape);
    }
}

/// Writes as many of the kept registers as are written together, from `first` on.
#[cube]
fn write_some<W: Size>(
    tensor: &mut [Vector<u32, W>],
    target: &Target,
    values: &Array<f32>,
    #[comptime] first: usize,
    #[comptime] map: usize,
    #[comptime] shape: HopperShape,
) {
    let eights = comptime!(shape.written() / 4);
    let mut upper = Array::<u32>::new(eights);
    let mut lower = Array::<u32>::new(eights);
    #[unroll]
    for eight in 0..eights {
        let i = comptime!(first + 4 * eight);
        let half = comptime!(shape.half);
        upper[eight] = pack(values[i], values[comptime!(i + 1)], half);
        lower[eight] = pack(values[comptime!(i + 2)], values[comptime!(i + 3)], half);
    }
    let first_column = comptime!(kept_column(&shape, map) + 2 * first);
    if comptime!(shape.wide) {
        let upper = transpose_quad(&upper).into_vector::<W>();
        let lower = transpose_quad(&lower).into_vector::<W>();
        target.write::<W>(tensor, upper, lower, comptime!(first_column / 8));
    } else {
        let upper = upper.into_vector::<W>();
        let lower = lower.into_vector::<W>();
        target.write::<W>(tensor, upper, lower, comptime!(first_column / 2));
    }
}
