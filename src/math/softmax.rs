//! Online softmax of the rows of a unit: running maxima and sums that tiles of scores update.

use cubecl::prelude::*;

use super::reduce::{Exchange, Op, reduce_rows};

/// Where the running maximum starts: below any real score, so far above [`MASKED`] that the difference is huge, too.
pub(crate) const FLOOR: f32 = -1.0e30;
/// Score of a key that is not seen; its exponential against any maximum is 0. (WGSL has no infinities.)
pub(crate) const MASKED: f32 = -3.0e38;
/// Log-sum-exp of a row that sees no key, where probabilities are computed from it: all of them are 0.
pub(crate) const UNSEEN: f32 = 1.0e30;

/// Running maximum and sum of exponentials of `n` rows. Each unit keeps the sum over its own columns only.
#[derive(CubeType)]
pub(crate) struct Softmax {
    maxima: Array<f32>,
    totals: Array<f32>,
}

/// Comptime shape of a [`Softmax`]: rows and columns of a unit, and how the units of a row exchange values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SoftmaxShape {
    pub rows: usize,
    pub cols: usize,
    pub width: usize,
    pub exchange: Exchange,
}

#[cube]
impl Softmax {
    /// Rows that have seen no key yet.
    pub fn new(#[comptime] shape: SoftmaxShape) -> Softmax {
        let mut maxima = Array::<f32>::new(shape.rows);
        let mut totals = Array::<f32>::new(shape.rows);
        #[unroll]
        for r in 0..shape.rows {
            maxima[r] = FLOOR.runtime();
            totals[r] = 0.0f32.runtime();
        }
        Softmax { maxima, totals }
    }

    /// Turns `scores`, `[rows, cols]`, into exponentials against the new maxima, and returns what earlier
    /// exponentials of each row decay by.
    pub fn update(
        &mut self,
        scores: &mut Array<f32>,
        scratch: &mut Shared<[f32]>,
        #[comptime] shape: SoftmaxShape,
    ) -> Array<f32> {
        let mut decay = row_maxima(&*scores, shape);
        reduce_rows(
            &mut decay,
            scratch,
            shape.rows,
            shape.width,
            shape.exchange,
            Op::Max,
        );
        #[unroll]
        for r in 0..shape.rows {
            let maximum = max(self.maxima[r], decay[r]);
            decay[r] = (self.maxima[r] - maximum).exp();
            self.maxima[r] = maximum;
            let mut total = self.totals[r] * decay[r];
            #[unroll]
            for j in 0..shape.cols {
                let at = comptime!(r * shape.cols + j);
                scores[at] = (scores[at] - maximum).exp();
                total += scores[at];
            }
            self.totals[r] = total;
        }
        decay
    }

    /// Sums every row over the units that share it.
    pub fn finish(&mut self, scratch: &mut Shared<[f32]>, #[comptime] shape: SoftmaxShape) {
        reduce_rows(
            &mut self.totals,
            scratch,
            shape.rows,
            shape.width,
            shape.exchange,
            Op::Sum,
        );
    }

    /// Factor that makes exponentials probabilities; 0 for a row that has seen no key. After [`Self::finish`].
    pub fn inverse(&self, #[comptime] row: usize) -> f32 {
        let total = self.totals[row];
        select(total > 0.0, 1.0 / max(total, 1.0e-30), 0.0f32.runtime())
    }

    /// Log-sum-exp of a row, or `unseen` if it has seen no key. After [`Self::finish`].
    pub fn lse(&self, unseen: f32, #[comptime] row: usize) -> f32 {
        let total = self.totals[row];
        select(
            total > 0.0,
            self.maxima[row] + max(total, 1.0e-30).ln(),
            unseen,
        )
    }
}

#[cube]
fn row_maxima(scores: &Array<f32>, #[comptime] shape: SoftmaxShape) -> Array<f32> {
    let mut maxima = Array::<f32>::new(shape.rows);
    #[unroll]
    for r in 0..shape.rows {
        let mut maximum = scores[comptime!(r * shape.cols)];
        #[unroll]
        for j in 1..shape.cols {
            maximum = max(maximum, scores[comptime!(r * shape.cols + j)]);
        }
        maxima[r] = maximum;
    }
    maxima
}
