//! How a thread writes its two rows of a product: rounded, two columns at a time, or eight after an exchange.

use cubecl::prelude::*;

use super::fragment::{first_column, quad_lane, transpose_quad};
use super::ptx::{Half, pack};
use crate::math::layout::Strides;

/// What is compiled in of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writing {
    pub half: Half,
    /// Eight columns at once, not two.
    pub wide: bool,
}

impl Writing {
    /// Registers that are written together: those of eight columns, or where writes are wide of four times eight.
    pub(crate) const fn registers(&self) -> usize {
        if self.wide { 16 } else { 4 }
    }

    /// Words of two elements that are written together to one row.
    pub(crate) const fn words(&self) -> usize {
        self.registers() / 4
    }

    /// Columns of a vector in memory.
    const fn columns(&self) -> usize {
        if self.wide { 8 } else { 2 }
    }
}

/// The thread's upper row in the problem.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Line {
    pub batch: u32,
    pub head: u32,
    pub row: u32,
    /// Rows of the sequence.
    pub len: u32,
}

/// The rows of a thread in a tensor that it writes, a vector of words of two columns at a time.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Target {
    /// Vector with the thread's first columns of each row.
    upper: u32,
    lower: u32,
    upper_exists: bool,
    lower_exists: bool,
    #[cube(comptime)]
    writing: Writing,
}

#[cube]
impl Target {
    pub fn new(at: &Strides, line: &Line, map: u32, #[comptime] writing: Writing) -> Target {
        let start = at.offset + line.batch * at.batch + line.head * at.head + map * at.pair;
        let row = start + line.row * at.seq;
        // Of four times eight columns, each thread of four writes eight.
        let upper = if comptime!(writing.wide) {
            row / 8u32 + quad_lane()
        } else {
            (row + first_column()) / 2u32
        };
        let below = if comptime!(writing.wide) {
            at.seq
        } else {
            4u32 * at.seq
        };
        Target {
            upper,
            lower: upper + below,
            upper_exists: line.row < line.len,
            lower_exists: line.row + 8u32 < line.len,
            writing,
        }
    }

    /// Writes `count` registers from `first` on, which hold the columns from `column` on.
    pub fn write<W: Size>(
        &self,
        tensor: &mut [Vector<u32, W>],
        values: &Array<f32>,
        #[comptime] first: usize,
        #[comptime] column: usize,
        #[comptime] count: usize,
    ) {
        let step = comptime!(self.writing.registers());
        #[unroll]
        for i in 0..comptime!(count / step) {
            self.write_some::<W>(
                tensor,
                values,
                comptime!(first + i * step),
                comptime!(column + 2 * i * step),
            );
        }
    }

    /// Writes as many registers as are written together.
    pub fn write_some<W: Size>(
        &self,
        tensor: &mut [Vector<u32, W>],
        values: &Array<f32>,
        #[comptime] first: usize,
        #[comptime] column: usize,
    ) {
        let eights = comptime!(self.writing.registers() / 4);
        let mut upper = Array::<u32>::new(eights);
        let mut lower = Array::<u32>::new(eights);
        #[unroll]
        for eight in 0..eights {
            let i = comptime!(first + 4 * eight);
            let half = comptime!(self.writing.half);
            upper[eight] = pack(values[i], values[comptime!(i + 1)], half);
            lower[eight] = pack(values[comptime!(i + 2)], values[comptime!(i + 3)], half);
        }
        let skip = comptime!(column / self.writing.columns());
        if comptime!(self.writing.wide) {
            let upper = transpose_quad(&upper).into_vector::<W>();
            let lower = transpose_quad(&lower).into_vector::<W>();
            self.store::<W>(tensor, upper, lower, skip);
        } else {
            let upper = upper.into_vector::<W>();
            let lower = lower.into_vector::<W>();
            self.store::<W>(tensor, upper, lower, skip);
        }
    }

    /// Stores a vector in each of both rows, `skip` vectors after the thread's first.
    fn store<W: Size>(
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
