//! `λ = exp(q1 · k1) − exp(q2 · k2) + λ_init` and its gradient, in one cube.

use cubecl::prelude::*;

use crate::math::reduce::{Exchange, Op, reduce_rows};

/// Units of the cube.
pub(crate) const LAMBDA_UNITS: usize = 32;

/// Length of the four vectors and where each begins.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct LambdaAt {
    pub dim: u32,
    pub q1: u32,
    pub k1: u32,
    pub q2: u32,
    pub k2: u32,
}

/// `exp(q1 · k1)` and `exp(q2 · k2)`.
#[cube]
fn exponentials(q1: &[f32], k1: &[f32], q2: &[f32], k2: &[f32], at: &LambdaAt) -> Array<f32> {
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(2 * LAMBDA_UNITS));
    let mut dots = Array::<f32>::new(2usize);
    dots[0] = 0.0f32.runtime();
    dots[1] = 0.0f32.runtime();
    for i in range_stepped(UNIT_POS, at.dim, comptime!(LAMBDA_UNITS as u32)) {
        dots[0] += q1[(at.q1 + i) as usize] * k1[(at.k1 + i) as usize];
        dots[1] += q2[(at.q2 + i) as usize] * k2[(at.k2 + i) as usize];
    }
    reduce_rows(
        &mut dots,
        &mut scratch,
        2usize,
        LAMBDA_UNITS,
        Exchange::Shared,
        Op::Sum,
    );
    dots[0] = dots[0].exp();
    dots[1] = dots[1].exp();
    dots
}

/// Writes λ to `lambda[0]`.
#[cube(launch_unchecked)]
pub(crate) fn lambda_from_vectors(
    q1: &[f32],
    k1: &[f32],
    q2: &[f32],
    k2: &[f32],
    lambda: &mut [f32],
    at: LambdaAt,
    initial: f32,
) {
    let e = exponentials(q1, k1, q2, k2, &at);
    if UNIT_POS == 0 {
        lambda[0] = e[0] - e[1] + initial;
    }
}

/// Writes the gradients of q1, k1, q2, k2, `[4, d]`, for the gradient of λ at `grad_lambda[grad_at]`.
#[cube(launch_unchecked)]
pub(crate) fn lambda_vector_gradients(
    q1: &[f32],
    k1: &[f32],
    q2: &[f32],
    k2: &[f32],
    grad_lambda: &[f32],
    grads: &mut [f32],
    at: LambdaAt,
    grad_at: u32,
) {
    let e = exponentials(q1, k1, q2, k2, &at);
    let signal = grad_lambda[grad_at as usize] * e[0];
    let noise = -grad_lambda[grad_at as usize] * e[1];
    for i in range_stepped(UNIT_POS, at.dim, comptime!(LAMBDA_UNITS as u32)) {
        grads[i as usize] = signal * k1[(at.k1 + i) as usize];
        grads[(at.dim + i) as usize] = signal * q1[(at.q1 + i) as usize];
        grads[(2 * at.dim + i) as usize] = noise * k2[(at.k2 + i) as usize];
        grads[(3 * at.dim + i) as usize] = noise * q2[(at.q2 + i) as usize];
    }
}
