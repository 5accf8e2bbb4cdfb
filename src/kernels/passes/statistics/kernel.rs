//! Backward, first pass: the gradient through the norm, and the statistics of every query row.

use cubecl::prelude::*;

use super::planes::{Differential, Statistics};
use super::shape::RowsShape;
use crate::kernels::work::{Order, Span, Work};
use crate::math::F4;
use crate::math::layout::{Strides, gamma4, load4, store4};
use crate::math::norm::{inverse_rms, sum4};
use crate::math::reduce::{Op, reduce_rows};
use crate::math::softmax::{FLOOR, UNSEEN};

/// Where the pass's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct RowsStrides {
    pub grad_output: Strides,
    pub saved: Strides,
    pub lambda: Strides,
    pub grad: Strides,
}

/// Numbers of the problem that do not change the code.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct RowsNumbers {
    pub query_len: u32,
    pub eps: f32,
    /// 1 − λ_init.
    pub factor: f32,
}

/// Grid: (row blocks, query heads, batch).
///
/// Writes `grad`, dL/dO (only with a norm: without one it is `grad_output`), `statistics`, and `grad_gamma`, one
/// partial sum `[dv]` for each cube.
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_rows<F: Float, N: Size>(
    grad_output: &[Vector<F, N>],
    saved: &[Vector<F, N>],
    lambda: &[f32],
    gamma: &[f32],
    lse: &[f32],
    grad: &mut [Vector<F, N>],
    statistics: &mut [f32],
    grad_gamma: &mut [f32],
    at: RowsStrides,
    numbers: RowsNumbers,
    #[comptime] shape: RowsShape,
    #[define(F)] _dtype: ElemType,
) {
    let owned4 = comptime!(shape.owned4());
    let (x, y) = place(shape);
    let work = Work::decode_queries(1u32, shape.rows(), Order::FirstToLast);
    let queries = Span::dense(work.batch, numbers.query_len as usize);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(shape.scratch_len()));
    let mut gamma_sums = Array::<F4>::new(owned4);
    #[unroll]
    for c in 0..owned4 {
        gamma_sums[c] = F4::new(0.0);
    }

    for step in 0..shape.steps {
        let row = work.first_row + step * shape.units_y + y;
        let real = row < queries.len;
        let saved_row = queries.start(&at.saved, work.head) + row * at.saved.seq as usize;
        let grad_row =
            queries.start(&at.grad_output, work.head) + row * at.grad_output.seq as usize;
        let o = load_row(saved, saved_row, x, real, shape);
        let mut g = load_row(grad_output, grad_row, x, real, shape);
        if comptime!(shape.norm) {
            let weighted = weigh(&g, gamma, x, numbers.factor, shape);
            let norm = Normalized::of(&o, &weighted, &mut scratch, numbers.eps, shape);
            through_norm(
                &mut g,
                &mut gamma_sums,
                &o,
                &weighted,
                &norm,
                numbers.factor,
                owned4,
            );
            round_row::<F>(&mut g, owned4);
            if real {
                let start = queries.start(&at.grad, work.head) + row * at.grad.seq as usize;
                store_own(grad, start, &g, x, shape);
            }
        }
        let mut delta = Array::<f32>::new(shape.maps);
        delta[0] = dot_rows(&g, &o, owned4);
        if comptime!(shape.maps == 2) {
            let noise = load_row(saved, saved_row + at.saved.pair as usize, x, real, shape);
            delta[1] = dot_rows(&g, &noise, owned4);
        }
        reduce(&mut delta, &mut scratch, shape.maps, shape);
        if real && x == 0 {
            let places = Statistics::of(&work, queries.len);
            let line = work.line(work.head);
            let lambda_row = queries.start(&at.lambda, work.head) + row * at.lambda.seq as usize;
            let lse_row = line * shape.maps * queries.len + row;
            let statistic =
                differential(&delta, lse, lse_row, queries.len, lambda, lambda_row, shape);
            places.write(statistics, places.at(line, row), &statistic, shape.planes());
        }
    }
    if comptime!(shape.gamma) {
        write_gamma(grad_gamma, &gamma_sums, work.cube(), shape);
    }
}

/// This unit's place: (its column of vectors, its row).
#[cube]
fn place(#[comptime] shape: RowsShape) -> (usize, usize) {
    let unit = UNIT_POS as usize;
    (unit % shape.units_x, unit / shape.units_x)
}

/// Sums `n` values of each unit over the units of its row.
#[cube]
fn reduce(
    values: &mut Array<f32>,
    scratch: &mut Shared<[f32]>,
    #[comptime] n: usize,
    #[comptime] shape: RowsShape,
) {
    // Units with a row to read or write left the others of their plane: all must be together again to exchange values.
    sync_cube();
    reduce_rows(values, scratch, n, shape.units_x, shape.exchange, Op::Sum);
}

/// The unit's vectors of a row; zero for a row that is not `real` and past the last column.
#[cube]
fn load_row<F: Float, N: Size>(
    source: &[Vector<F, N>],
    start: usize,
    x: usize,
    real: bool,
    #[comptime] shape: RowsShape,
) -> Array<F4> {
    let mut out = Array::<F4>::new(comptime!(shape.owned4()));
    #[unroll]
    for c in 0..comptime!(shape.owned4()) {
        let column4 = x + c * shape.units_x;
        out[c] = F4::new(0.0);
        if real && column4 < shape.value_dim4 {
            out[c] = load4(source, start + column4 * 4);
        }
    }
    out
}

/// `g' = g γ (1 − λ_init)`.
#[cube]
fn weigh(
    g: &Array<F4>,
    gamma: &[f32],
    x: usize,
    factor: f32,
    #[comptime] shape: RowsShape,
) -> Array<F4> {
    let owned4 = comptime!(shape.owned4());
    let mut weighted = Array::<F4>::new(owned4);
    #[unroll]
    for c in 0..owned4 {
        weighted[c] = g[c] * F4::new(factor);
        if comptime!(shape.gamma) {
            weighted[c] *= gamma4(gamma, x + c * shape.units_x, shape.value_dim4);
        }
    }
    weighted
}

/// What the gradient through the norm needs of a whole row.
#[derive(CubeType, Clone, Copy)]
struct Normalized {
    /// `r = rsqrt(mean(O²) + eps)`.
    inverse: f32,
    /// `mean(g' x̂)`, with `x̂ = O r`.
    mean: f32,
}

#[cube]
impl Normalized {
    fn of(
        o: &Array<F4>,
        weighted: &Array<F4>,
        scratch: &mut Shared<[f32]>,
        eps: f32,
        #[comptime] shape: RowsShape,
    ) -> Normalized {
        let owned4 = comptime!(shape.owned4());
        let mut sums = Array::<f32>::new(2usize);
        sums[0] = dot_rows(o, o, owned4);
        sums[1] = dot_rows(weighted, o, owned4);
        reduce(&mut sums, scratch, 2usize, shape);
        let n = comptime!(4.0 * shape.value_dim4 as f32);
        let inverse = inverse_rms(sums[0] / n, eps);
        let mean = sums[1] * inverse / n;
        Normalized { inverse, mean }
    }
}

/// Turns `g = dL/dY` into `dL/dO = r (g' − x̂ mean(g' x̂))` and adds the row's part to the weight's gradient,
/// `dγ += g x̂ (1 − λ_init)`.
#[cube]
fn through_norm(
    g: &mut Array<F4>,
    gamma_sums: &mut Array<F4>,
    o: &Array<F4>,
    weighted: &Array<F4>,
    row: &Normalized,
    factor: f32,
    #[comptime] owned4: usize,
) {
    #[unroll]
    for c in 0..owned4 {
        let normalized = o[c] * F4::new(row.inverse);
        gamma_sums[c] += g[c] * normalized * F4::new(factor);
        g[c] = (weighted[c] - normalized * F4::new(row.mean)) * F4::new(row.inverse);
    }
}

/// Rounds a row as it is stored, so that δ is made of the same gradient as dP: what is left of both where they cancel
/// must not be the rounding of one of them.
#[cube]
fn round_row<F: Float>(row: &mut Array<F4>, #[comptime] width: usize) {
    #[unroll]
    for c in 0..width {
        row[c] = F4::cast_from(Vector::<F, Const<4>>::cast_from(row[c]));
    }
}

#[cube]
fn dot_rows(a: &Array<F4>, b: &Array<F4>, #[comptime] width: usize) -> f32 {
    let mut sum = F4::new(0.0);
    #[unroll]
    for c in 0..width {
        sum += a[c] * b[c];
    }
    sum4(sum)
}

#[cube]
fn store_own<F: Float, N: Size>(
    target: &mut [Vector<F, N>],
    start: usize,
    row: &Array<F4>,
    x: usize,
    #[comptime] shape: RowsShape,
) {
    #[unroll]
    for c in 0..comptime!(shape.owned4()) {
        let column4 = x + c * shape.units_x;
        if column4 < shape.value_dim4 {
            store4(target, start + column4 * 4, row[c]);
        }
    }
}

/// Log-sum-exp, δ and λ of one row. `delta` comes as `rowsum(dO ⊙ O), rowsum(dO ⊙ O_2)`; as `O = O_1 − λ O_2`,
/// `δ_1 = rowsum(dO ⊙ O) + λ δ_2`.
#[cube]
fn differential(
    delta: &Array<f32>,
    lse: &[f32],
    lse_row: usize,
    lse_pair: usize,
    lambda: &[f32],
    lambda_row: usize,
    #[comptime] shape: RowsShape,
) -> Differential {
    if comptime!(shape.maps == 2) {
        let lambda = lambda[lambda_row];
        Differential {
            lse: readable(lse[lse_row]),
            noise_lse: readable(lse[lse_row + lse_pair]),
            delta: delta[0] + lambda * delta[1],
            noise_delta: delta[1],
            lambda,
        }
    } else {
        Differential {
            lse: readable(lse[lse_row]),
            noise_lse: 0.0f32.runtime(),
            delta: delta[0],
            noise_delta: 0.0f32.runtime(),
            lambda: 0.0f32.runtime(),
        }
    }
}

/// A saved log-sum-exp, with the value from which probabilities of a row that sees no key become 0.
#[cube]
fn readable(lse: f32) -> f32 {
    select(lse > FLOOR.runtime(), lse, UNSEEN.runtime())
}

/// Sums the weight's gradient over the cube's rows, into the part that belongs to the cube.
#[cube]
fn write_gamma(
    grad_gamma: &mut [f32],
    sums: &Array<F4>,
    cube: usize,
    #[comptime] shape: RowsShape,
) {
    let (x, y) = place(shape);
    let width = comptime!(shape.owned4() * shape.units_x);
    let mut parts = Shared::<[F4]>::new_slice(comptime!(shape.gamma_len()));
    #[unroll]
    for c in 0..comptime!(shape.owned4()) {
        parts[y * width + x + c * shape.units_x] = sums[c];
    }
    sync_cube();
    let start = cube * comptime!(shape.value_dim4 * 4);
    let units = comptime!(shape.units());
    for column4 in range_stepped(UNIT_POS as usize, shape.value_dim4, units) {
        let mut sum = F4::new(0.0);
        for row in 0..shape.units_y {
            sum += parts[row * width + column4];
        }
        #[unroll]
        for e in 0..4usize {
            grad_gamma[start + column4 * 4 + e] = sum.extract(e);
        }
    }
}
