//! Online softmax of the scores that a thread holds of a product, and the mask on them.

use cubecl::prelude::*;

use super::fragment::{column, first_column, in_lower_row};
use super::ptx::{Half, exp2, log2, pack, quad_max, quad_sum, reciprocal};
use crate::math::mask::{Band, Bounds, Sides};
use crate::math::softmax::{FLOOR, MASKED};

/// A score so far above its row's maximum moves it, as a power of 2: the exponentials still fit 16 bits.
const FAR: f32 = 8.0;

/// Running maxima and sums of exponentials of a thread's two rows. Each thread keeps the sums over its own columns.
#[derive(CubeType)]
pub(crate) struct Softmax {
    maxima: Array<f32>,
    totals: Array<f32>,
    /// What earlier exponentials of each row decay by.
    decay: Array<f32>,
}

/// The new maximum of a row if it is far above the old one, else that.
#[cube]
fn if_far(old: f32, new: f32, scale: f32) -> f32 {
    select((new - old) * scale > FAR, new, old)
}

/// Factors of a thread's two rows.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Decay {
    pub upper: f32,
    pub lower: f32,
}

#[cube]
impl Softmax {
    /// Rows that have seen no key yet.
    pub fn new() -> Softmax {
        let mut maxima = Array::<f32>::new(2usize);
        let mut totals = Array::<f32>::new(2usize);
        #[unroll]
        for row in 0..2usize {
            maxima[row] = FLOOR.runtime();
            totals[row] = 0.0f32.runtime();
        }
        let decay = Array::<f32>::new(2usize);
        Softmax {
            maxima,
            totals,
            decay,
        }
    }

    /// Turns scores into exponentials, base 2 and against the new maxima, which are the old ones if they are greater.
    pub fn update(
        &mut self,
        x: &mut Array<f32>,
        visible: &Visible,
        first_key: i32,
        scale: f32,
        #[comptime] count: usize,
        #[comptime] sides: Sides,
    ) {
        visible.mask(x, first_key, count, sides);
        let (upper, lower) = self.greatest(x, count);
        self.move_to(upper, lower, scale);
        self.exponentiate(x, scale, count);
    }

    /// The same, but a maximum moves only to what is far above it: mostly nothing decays. Sums and the log-sum-exp are exact
    /// either way; an exponential is at most 256.
    pub fn update_rarely(
        &mut self,
        x: &mut Array<f32>,
        visible: &Visible,
        first_key: i32,
        scale: f32,
        #[comptime] count: usize,
        #[comptime] sides: Sides,
    ) {
        visible.mask(x, first_key, count, sides);
        let (upper, lower) = self.greatest(x, count);
        let upper = if_far(self.maxima[0], upper, scale);
        let lower = if_far(self.maxima[1], lower, scale);
        self.move_to(upper, lower, scale);
        self.exponentiate(x, scale, count);
    }

    /// The maxima with those of new scores.
    fn greatest(&self, x: &mut Array<f32>, #[comptime] count: usize) -> (f32, f32) {
        let mut upper = self.maxima[0];
        let mut lower = self.maxima[1];
        #[unroll]
        for i in 0..count {
            if comptime!(in_lower_row(i)) {
                lower = max(lower, x[i]);
            } else {
                upper = max(upper, x[i]);
            }
        }
        (quad_max(upper), quad_max(lower))
    }

    fn move_to(&mut self, upper: f32, lower: f32, scale: f32) {
        self.decay[0] = exp2((self.maxima[0] - upper) * scale);
        self.decay[1] = exp2((self.maxima[1] - lower) * scale);
        self.maxima[0] = upper;
        self.maxima[1] = lower;
    }

    fn exponentiate(&mut self, x: &mut Array<f32>, scale: f32, #[comptime] count: usize) {
        let upper_shift = -self.maxima[0] * scale;
        let lower_shift = -self.maxima[1] * scale;
        let mut upper_total = self.totals[0] * self.decay[0];
        let mut lower_total = self.totals[1] * self.decay[1];
        #[unroll]
        for j in 0..comptime!(count / 4) {
            let i = comptime!(4 * j);
            x[i] = exp2(fma(x[i], scale, upper_shift));
            x[i + 1] = exp2(fma(x[i + 1], scale, upper_shift));
            x[i + 2] = exp2(fma(x[i + 2], scale, lower_shift));
            x[i + 3] = exp2(fma(x[i + 3], scale, lower_shift));
            upper_total += x[i] + x[i + 1];
            lower_total += x[i + 2] + x[i + 3];
        }
        self.totals[0] = upper_total;
        self.totals[1] = lower_total;
    }

    /// What earlier exponentials decay by.
    pub fn decay(&self) -> Decay {
        Decay {
            upper: self.decay[0],
            lower: self.decay[1],
        }
    }

    /// A number that no exponential of the last update may be missing from, not negative.
    pub fn witness(&self) -> f32 {
        self.totals[0] + self.totals[1]
    }

    /// Sums every row over the threads that share it.
    pub fn finish(&mut self) {
        self.totals[0] = quad_sum(self.totals[0]);
        self.totals[1] = quad_sum(self.totals[1]);
    }

    /// Factor that makes exponentials probabilities; 0 for a row that has seen no key. After [`Self::finish`].
    pub fn inverse(&self, #[comptime] row: usize) -> f32 {
        let total = self.totals[row];
        select(total > 0.0, reciprocal(total), 0.0f32.runtime())
    }

    /// Log-sum-exp of a row, or `unseen` if it has seen no key. After [`Self::finish`].
    pub fn lse(&self, scale: f32, unseen: f32, #[comptime] row: usize) -> f32 {
        let total = self.totals[row];
        let lse = (self.maxima[row] * scale + log2(total)) * comptime!(core::f32::consts::LN_2);
        select(total > 0.0, lse, unseen)
    }
}

/// Rounds exponentials to the left operand of a product, two to a word; more words than that are left unset.
#[cube]
pub(crate) fn weights(
    exponentials: &Array<f32>,
    #[comptime] count: usize,
    #[comptime] words: usize,
    #[comptime] half: Half,
) -> Array<u32> {
    let mut packed = Array::<u32>::new(words);
    #[unroll]
    for i in 0..comptime!(count / 2) {
        packed[i] = pack(
            exponentials[comptime!(2 * i)],
            exponentials[comptime!(2 * i + 1)],
            half,
        );
    }
    packed
}

/// Which keys the rows of a thread and of its tile see: the rows of the warps that multiply together.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Visible {
    /// Keys that all rows of the tile see.
    inner_start: i32,
    inner_end: i32,
    /// Keys that the thread's rows see, counted from its first column.
    upper_start: i32,
    upper_end: i32,
    lower_start: i32,
    lower_end: i32,
}

#[cube]
impl Visible {
    /// For a tile whose rows are `first..last + 1` and a thread with rows `upper` and `upper + 8`.
    pub fn new(
        band: &Band,
        first: i32,
        last: i32,
        upper: i32,
        #[comptime] sides: Sides,
    ) -> Visible {
        let all = band.keys(first, last, sides);
        let upper_row = band.keys(upper, upper, sides);
        let lower_row = band.keys(upper + 8, upper + 8, sides);
        Visible::of(&all, &upper_row, &lower_row)
    }

    /// Masks the scores of a tile that begins at `first_key`. Only a tile at the edge compares; all warps
    /// that multiply together agree on that.
    fn mask(
        &self,
        scores: &mut Array<f32>,
        first_key: i32,
        #[comptime] count: usize,
        #[comptime] sides: Sides,
    ) {
        let ends = comptime!(Sides {
            left: sides.left,
            right: true
        });
        if self.is_edge(first_key, count, ends) {
            self.hide(scores, first_key, count, ends);
        }
    }

    /// For a tile that sees `all` of some positions, and a thread whose rows see those of `upper` and `lower`.
    pub fn of(all: &Bounds, upper: &Bounds, lower: &Bounds) -> Visible {
        let column = first_column() as i32;
        Visible {
            inner_start: all.inner_start,
            inner_end: all.inner_end,
            upper_start: upper.start - column,
            upper_end: upper.end - column,
            lower_start: lower.start - column,
            lower_end: lower.end - column,
        }
    }

    /// Whether not all rows of the tile see all positions from `first` on. Of which ends there are to see, `ends` says.
    pub fn is_edge(&self, first: i32, #[comptime] count: usize, #[comptime] ends: Sides) -> bool {
        let mut edge = false.runtime();
        if comptime!(ends.right) {
            edge = first + comptime!(2 * count as i32) > self.inner_end;
        }
        if comptime!(ends.left) {
            edge = edge || first < self.inner_start;
        }
        edge
    }

    /// Masks the scores of positions that the thread's rows do not see.
    pub fn hide(
        &self,
        scores: &mut Array<f32>,
        first: i32,
        #[comptime] count: usize,
        #[comptime] ends: Sides,
    ) {
        #[unroll]
        for i in 0..count {
            let position = comptime!(column(i) as i32);
            let mut seen = true.runtime();
            if comptime!(ends.right) {
                let end = if comptime!(in_lower_row(i)) {
                    self.lower_end
                } else {
                    self.upper_end
                };
                seen = position < end - first;
            }
            if comptime!(ends.left) {
                let start = if comptime!(in_lower_row(i)) {
                    self.lower_start
                } else {
                    self.upper_start
                };
                seen = seen && position >= start - first;
            }
            scores[i] = select(seen, scores[i], MASKED.runtime());
        }
    }
}
