//! Backward, first pass: the gradient through the norm, and the statistics of every query row.
//!
//! Statistics are `[planes, B, H, Nq]` in `f32`: log-sum-exp of each map, δ of each map, and with two maps λ.

use cubecl::prelude::*;

use super::shape::RowsShape;
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
    let unit = UNIT_POS as usize;
    let (x, y) = (unit % shape.units_x, unit / shape.units_x);
    let (head, batch) = (CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(shape.scratch_len()));
    let mut gamma_sums = Array::<F4>::new(owned4);
    #[unroll]
    for c in 0..owned4 {
        gamma_sums[c] = F4::new(0.0);
    }

    for step in 0..shape.steps {
        let row = CUBE_POS_X as usize * shape.rows() + step * shape.units_y + y;
        let real = row < numbers.query_len as usize;
        let saved_row = at.saved.start(batch, head) + row * at.saved.seq as usize;
        let grad_row = at.grad_output.start(batch, head) + row * at.grad_output.seq as usize;
        let o = load_row(saved, saved_row, x, real, shape);
        let mut g = load_row(grad_output, grad_row, x, real, shape);
        if comptime!(shape.norm) {
            through_norm(
                &mut g,
                &mut gamma_sums,
                &o,
                gamma,
                &mut scratch,
                x,
                &numbers,
                shape,
            );
            round_row::<F>(&mut g, owned4);
            if real {
                let start = at.grad.start(batch, head) + row * at.grad.seq as usize;
                store_own(grad, start, &g, x, shape);
            }
        }
        let mut delta = Array::<f32>::new(shape.maps);
        delta[0] = dot_rows(&g, &o, owned4);
        if comptime!(shape.maps == 2) {
            let noise = load_row(saved, saved_row + at.saved.pair as usize, x, real, shape);
            delta[1] = dot_rows(&g, &noise, owned4);
        }
        // Units with a row to write left the others of their plane: all must be together again to exchange values.
        sync_cube();
        reduce_rows(
            &mut delta,
            &mut scratch,
            shape.maps,
            shape.units_x,
            shape.exchange,
            Op::Sum,
        );
        if real && x == 0 {
            let lambda_row = at.lambda.start(batch, head) + row * at.lambda.seq as usize;
            write_statistics(
                statistics, &delta, lse, lambda, lambda_row, row, &numbers, shape,
            );
        }
    }
    if comptime!(shape.gamma) {
        write_gamma(grad_gamma, &gamma_sums, x, y, shape);
    }
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

/// Turns `g = dL/dY` into `dL/dO` and adds the row's part to the weight's gradient.
///
/// With `r = rsqrt(mean(O²) + eps)`, `x̂ = O r` and `g' = g γ (1 − λ_init)`: `dO = r (g' − x̂ mean(g' x̂))` and
/// `dγ += g x̂ (1 − λ_init)`.
#[cube]
fn through_norm(
    g: &mut Array<F4>,
    gamma_sums: &mut Array<F4>,
    o: &Array<F4>,
    gamma: &[f32],
    scratch: &mut Shared<[f32]>,
    x: usize,
    numbers: &RowsNumbers,
    #[comptime] shape: RowsShape,
) {
    let owned4 = comptime!(shape.owned4());
    let mut weighted = Array::<F4>::new(owned4);
    #[unroll]
    for c in 0..owned4 {
        weighted[c] = g[c] * F4::new(numbers.factor);
        if comptime!(shape.gamma) {
            weighted[c] *= gamma4(gamma, x + c * shape.units_x, shape.value_dim4);
        }
    }
    let mut sums = Array::<f32>::new(2usize);
    sums[0] = dot_rows(o, o, owned4);
    sums[1] = dot_rows(&weighted, o, owned4);
    // As above: units with a row to read left the others.
    sync_cube();
    reduce_rows(
        &mut sums,
        scratch,
        2usize,
        shape.units_x,
        shape.exchange,
        Op::Sum,
    );
    let n = comptime!(4.0 * shape.value_dim4 as f32);
    let r = inverse_rms(sums[0] / n, numbers.eps);
    let mean = sums[1] * r / n;
    #[unroll]
    for c in 0..owned4 {
        let normalized = o[c] * F4::new(r);
        gamma_sums[c] += g[c] * normalized * F4::new(numbers.factor);
        g[c] = (weighted[c] - normalized * F4::new(mean)) * F4::new(r);
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

/// Writes log-sum-exp, δ and λ of one row. `delta` comes as `rowsum(dO ⊙ O), rowsum(dO ⊙ O_2)`; as `O = O_1 − λ O_2`,
/// `δ_1 = rowsum(dO ⊙ O) + λ δ_2`.
#[cube]
fn write_statistics(
    statistics: &mut [f32],
    delta: &Array<f32>,
    lse: &[f32],
    lambda: &[f32],
    lambda_row: usize,
    row: usize,
    numbers: &RowsNumbers,
    #[comptime] shape: RowsShape,
) {
    let len = numbers.query_len as usize;
    let line = CUBE_POS_Z as usize * CUBE_COUNT_Y as usize + CUBE_POS_Y as usize;
    let plane = CUBE_COUNT_Z as usize * CUBE_COUNT_Y as usize * len;
    let at = line * len + row;
    #[unroll]
    for m in 0..shape.maps {
        let value = lse[(line * shape.maps + m) * len + row];
        statistics[m * plane + at] = select(value > FLOOR.runtime(), value, UNSEEN.runtime());
    }
    if comptime!(shape.maps == 2) {
        let scale = lambda[lambda_row];
        statistics[2 * plane + at] = delta[0] + scale * delta[1];
        statistics[3 * plane + at] = delta[1];
        statistics[4 * plane + at] = scale;
    } else {
        statistics[plane + at] = delta[0];
    }
}

/// Sums the weight's gradient over the cube's rows.
#[cube]
fn write_gamma(
    grad_gamma: &mut [f32],
    sums: &Array<F4>,
    x: usize,
    y: usize,
    #[comptime] shape: RowsShape,
) {
    let width = comptime!(shape.owned4() * shape.units_x);
    let mut parts = Shared::<[F4]>::new_slice(comptime!(shape.gamma_len()));
    #[unroll]
    for c in 0..comptime!(shape.owned4()) {
        parts[y * width + x + c * shape.units_x] = sums[c];
    }
    sync_cube();
    let line = CUBE_POS_Z as usize * CUBE_COUNT_Y as usize + CUBE_POS_Y as usize;
    let start =
        (line * CUBE_COUNT_X as usize + CUBE_POS_X as usize) * comptime!(shape.value_dim4 * 4);
    for column4 in range_stepped(
        UNIT_POS as usize,
        shape.value_dim4,
        comptime!(shape.units()),
    ) {
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
