//! Gradients of the inputs from the gradient of the output, fused: `dP` and `dV` are computed once for both maps.

use super::forward::{MapRow, attend, combine, inverse_rms, norm_weight, visible};
use super::matrix::{Matrix, add_scaled, dot};
use super::{
    Head, Inputs, batch_heads, check_len, key_head, key_heads, output_heads, query_head,
    query_heads, value_heads,
};
use crate::error::Result;
use crate::problem::{Norm, Problem};

/// Gradients of the inputs, each in its input's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// `[B, Nq, H, maps, d]`.
    pub query: Vec<f64>,
    /// `[B, Nk, Hk, maps, d]`; `[B, Nk, Hk, 1, d]`, the sum over both maps, where they share the key.
    pub key: Vec<f64>,
    /// `[B, Nk, Hk, dv]`.
    pub value: Vec<f64>,
    /// `[B, Nq, H]`, empty for standard attention. [`reduce_to`](super::reduce_to) sums it to the shape of a shared λ.
    pub lambda: Vec<f64>,
    /// `[dv]`, present if the input has γ.
    pub gamma: Option<Vec<f64>>,
}

/// Gradients of a loss from `grad_output` `[B, Nq, H, dv]`, its gradient with respect to the output.
///
/// With `dO` the gradient taken through the norm and `w = (1, −λ)` the weights of the maps:
/// - `dP = dO Vᵀ`, the same for both maps, and `δ_m = rowsum(dO ⊙ O_m)`;
/// - `dS_m = w_m P_m ⊙ (dP − δ_m)`, `dQ_m = scale · dS_m K_m`, `dK_m = scale · dS_mᵀ Q_m`;
/// - `dV = (P_1 − λ P_2)ᵀ dO` and `dλ = −δ_2`.
///
/// # Errors
/// As [`forward`](super::forward()); [`Error::Length`](crate::Error::Length) if `grad_output` has another size.
///
/// See the [module](super) for an example.
pub fn backward(problem: &Problem, inputs: &Inputs, grad_output: &[f64]) -> Result<Gradients> {
    inputs.check(problem)?;
    check_len(
        grad_output,
        &[
            problem.batch,
            problem.query_len,
            problem.heads,
            problem.value_dim,
        ],
    )?;
    let mut gradients = Gradients::zeros(inputs);
    for (batch, head) in batch_heads(problem) {
        let tensors = inputs.head(problem, batch, head);
        let mut sums = HeadGradients::zeros(problem);
        for query in (0..problem.query_len).filter(|query| !visible(problem, *query).is_empty()) {
            let place = output_heads(problem).row(batch, head, query);
            let row = place.start / problem.value_dim;
            let weights = inputs.weights(row);
            let maps = attend(problem, &tensors, query);
            let output = combine(weights, &maps);
            let grad = gradients.through_norm(problem.norm, inputs, &output, &grad_output[place]);
            if let Some(noise) = maps.get(1) {
                gradients.lambda[row] = -dot(&grad, &noise.output);
            }
            sums.add_row(problem, &tensors, query, weights, &maps, &grad);
        }
        gradients.add_head(problem, batch, head, &sums);
    }
    Ok(gradients)
}

impl Gradients {
    fn zeros(inputs: &Inputs) -> Self {
        let like = |values: &Vec<f64>| vec![0.0; values.len()];
        Self {
            query: like(&inputs.query),
            key: like(&inputs.key),
            value: like(&inputs.value),
            lambda: like(&inputs.lambda),
            gamma: inputs.gamma.as_ref().map(like),
        }
    }

    /// `dO` of one row from `dY`; adds the row's part of `dγ = Σ_rows dY ⊙ x̂ (1 − λ_init)`.
    ///
    /// With `x̂ = O r` and `g = dY ⊙ γ (1 − λ_init)`: `dO = r (g − x̂ · mean(g ⊙ x̂))`.
    fn through_norm(
        &mut self,
        norm: Option<Norm>,
        inputs: &Inputs,
        output: &[f64],
        grad: &[f64],
    ) -> Vec<f64> {
        let Some(norm) = norm else {
            return grad.to_vec();
        };
        let r = inverse_rms(output, norm);
        let normalized: Vec<f64> = output.iter().map(|o| o * r).collect();
        let g: Vec<f64> = (0..grad.len())
            .map(|c| grad[c] * norm_weight(inputs, norm, c))
            .collect();
        let mean = dot(&g, &normalized) / g.len() as f64;
        for (c, gamma) in self.gamma.iter_mut().flatten().enumerate() {
            *gamma += grad[c] * normalized[c] * (1.0 - f64::from(norm.lambda_init));
        }
        g.iter()
            .zip(&normalized)
            .map(|(g, x)| r * (g - x * mean))
            .collect()
    }

    /// Adds what one query head gives to its queries, and to the keys and values that it shares with its group.
    fn add_head(&mut self, problem: &Problem, batch: usize, head: usize, sums: &HeadGradients) {
        for map in 0..problem.maps {
            let (query, key) = (query_head(problem, head, map), key_head(problem, head, map));
            query_heads(problem).scatter_add(&sums.query[map], &mut self.query, batch, query);
            key_heads(problem).scatter_add(&sums.key[map], &mut self.key, batch, key);
        }
        value_heads(problem).scatter_add(
            &sums.value,
            &mut self.value,
            batch,
            head / problem.group(),
        );
    }
}

/// What one query head gives to the gradients: those of a [`Head`]'s matrices.
struct HeadGradients {
    query: Vec<Matrix>,
    key: Vec<Matrix>,
    value: Matrix,
}

impl HeadGradients {
    fn zeros(problem: &Problem) -> Self {
        let maps = |rows| {
            (0..problem.maps)
                .map(|_| Matrix::zeros(rows, problem.head_dim))
                .collect()
        };
        Self {
            query: maps(problem.query_len),
            key: maps(problem.key_len),
            value: Matrix::zeros(problem.key_len, problem.value_dim),
        }
    }

    /// Adds what one query gives, from `grad = dO` of its row.
    fn add_row(
        &mut self,
        problem: &Problem,
        head: &Head,
        query: usize,
        weights: [f64; 2],
        maps: &[MapRow],
        grad: &[f64],
    ) {
        let keys = visible(problem, query);
        let grad_probabilities: Vec<f64> = keys
            .clone()
            .map(|key| dot(grad, head.value.row(key)))
            .collect();
        for (at, key) in keys.clone().enumerate() {
            let p: f64 = maps
                .iter()
                .zip(weights)
                .map(|(map, w)| w * map.probabilities[at])
                .sum();
            add_scaled(self.value.row_mut(key), p, grad);
        }
        for (m, map) in maps.iter().enumerate() {
            let delta = dot(grad, &map.output);
            for (at, key) in keys.clone().enumerate() {
                let grad_score =
                    weights[m] * map.probabilities[at] * (grad_probabilities[at] - delta);
                let grad_product = f64::from(problem.scale) * grad_score;
                add_scaled(
                    self.query[m].row_mut(query),
                    grad_product,
                    head.key[m].row(key),
                );
                add_scaled(
                    self.key[m].row_mut(key),
                    grad_product,
                    head.query[m].row(query),
                );
            }
        }
    }
}
