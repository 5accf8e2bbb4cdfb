//! Products of a warp's 16 rows: sums in registers, the right operand in shared memory, the left one in either.

use cubecl::prelude::*;

use super::ptx::{W4, load_columns, load_rows, multiply};
use super::tile::{FRAGMENT, Tile};
use crate::kernels::warp::ptx::{Half, pack};
use crate::math::F4;

/// `count` sums of 16 rows and 8 columns.
#[cube]
pub(crate) fn zeros(#[comptime] count: usize) -> Array<F4> {
    let mut sums = Array::<F4>::new(count);
    #[unroll]
    for i in 0..count {
        sums[i] = F4::new(0.0);
    }
    sums
}

/// `A Bᵀ` by number: an element of each row of the thread, as a fragment has them. `left` and `right` are the addresses of
/// the lane's rows in tiles that are summed along their columns.
#[cube]
pub(crate) fn scores(
    left: u32,
    right: u32,
    #[comptime] left_tile: Tile,
    #[comptime] right_tile: Tile,
    #[comptime] half: Half,
) -> Array<f32> {
    let blocks = comptime!(right_tile.rows / FRAGMENT);
    let mut sums = zeros(comptime!(2 * blocks));
    #[unroll]
    for step in 0..comptime!(left_tile.columns / FRAGMENT) {
        let a = load_rows(
            left ^ comptime!(left_tile.turn(step) as u32),
            comptime!(left_tile.skip(step, 0)),
        );
        let right = right ^ comptime!(right_tile.turn(step) as u32);
        #[unroll]
        for block in 0..blocks {
            let b = load_rows(right, comptime!(right_tile.skip(step, block * FRAGMENT)));
            let (i, j) = (comptime!(2 * block), comptime!(2 * block + 1));
            sums[i] = multiply(sums[i], a, b.extract(0usize), b.extract(1usize), half);
            sums[j] = multiply(sums[j], a, b.extract(2usize), b.extract(3usize), half);
        }
    }
    elements(&sums, comptime!(2 * blocks))
}

/// Comptime shape of `sums += A B` for some left operands over one right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Accumulation {
    /// The first of the sums, of 8 columns each.
    pub first: usize,
    /// Left operands.
    pub maps: usize,
    /// Columns of the right operand that are wanted.
    pub columns: usize,
    pub tile: Tile,
    pub half: Half,
}

/// `sums += A B`, A in registers. `right` is the address of the lane's row in a tile that is summed along its rows.
#[cube]
pub(crate) fn accumulate(
    sums: &mut Array<F4>,
    left: &Array<W4>,
    right: u32,
    #[comptime] shape: Accumulation,
) {
    let (tile, half) = comptime!((shape.tile, shape.half));
    let steps = comptime!(tile.rows / FRAGMENT);
    #[unroll]
    for block in 0..comptime!(shape.columns / FRAGMENT) {
        let right = right ^ comptime!(tile.turn(block) as u32);
        #[unroll]
        for step in 0..steps {
            let b = load_columns(right, comptime!(tile.skip(block, step * FRAGMENT)));
            #[unroll]
            for map in 0..shape.maps {
                let a = left[comptime!(map * steps + step)];
                let i = comptime!(shape.first + map * shape.columns / 8 + 2 * block);
                let j = comptime!(i + 1);
                sums[i] = multiply(sums[i], a, b.extract(0usize), b.extract(1usize), half);
                sums[j] = multiply(sums[j], a, b.extract(2usize), b.extract(3usize), half);
            }
        }
    }
}

/// `count` sums from `first` on as numbers, times `factor`.
#[cube]
pub(crate) fn scaled(
    sums: &Array<F4>,
    factor: f32,
    #[comptime] first: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(comptime!(4 * count));
    #[unroll]
    for i in 0..count {
        #[unroll]
        for e in 0..4usize {
            out[comptime!(4 * i + e)] = sums[comptime!(first + i)].extract(e) * factor;
        }
    }
    out
}

/// Sums as numbers.
#[cube]
fn elements(sums: &Array<F4>, #[comptime] count: usize) -> Array<f32> {
    let mut out = Array::<f32>::new(comptime!(4 * count));
    #[unroll]
    for i in 0..count {
        #[unroll]
        for e in 0..4usize {
            out[comptime!(4 * i + e)] = sums[i].extract(e);
        }
    }
    out
}

/// Rounds a product's `4 · count` numbers to a left operand, from its 16 columns number `first` on.
#[cube]
pub(crate) fn left_operand(
    out: &mut Array<W4>,
    x: &Array<f32>,
    #[comptime] first: usize,
    #[comptime] count: usize,
    #[comptime] half: Half,
) {
    #[unroll]
    for step in 0..comptime!(count / 2) {
        let mut words = Array::<u32>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            let at = comptime!(8 * step + 2 * i);
            words[i] = pack(x[at], x[comptime!(at + 1)], half);
        }
        out[comptime!(first + step)] = words.into_vector::<Const<4>>();
    }
}

/// Multiplies the thread's upper and lower row in `count` sums from `first` on.
#[cube]
pub(crate) fn scale_rows(
    sums: &mut Array<F4>,
    upper: f32,
    lower: f32,
    #[comptime] first: usize,
    #[comptime] count: usize,
) {
    #[unroll]
    for i in 0..count {
        let at = comptime!(first + i);
        let x = sums[at];
        let mut out = Array::<f32>::new(4usize);
        out[0] = x.extract(0usize) * upper;
        out[1] = x.extract(1usize) * upper;
        out[2] = x.extract(2usize) * lower;
        out[3] = x.extract(3usize) * lower;
        sums[at] = out.into_vector::<Const<4>>();
    }
}
