//! What rounding in `f32` may cost every element of every tensor, whatever the order of its sums: error analysis to first
//! order, with one unit roundoff for every number that takes part, and for an exponential what Vulkan allows.
//!
//! For `f32` storage only.

use diff_flash_attn::Problem;
use diff_flash_attn::reference::{self, Forward, Gradients, Inputs};

use crate::cases::Case;

/// Half the distance from 1 to the next `f32`.
const ROUNDOFF: f64 = 1.0 / (1 << 24) as f64;

/// Errors in the shapes of the values, that of λ in λ's own.
pub struct Rounding {
    /// Errors of what the forward pass computes.
    pub forward: Forward,
    /// Errors of the gradients.
    pub backward: Gradients,
}

impl Rounding {
    /// Errors of a case whose exact forward pass is `exact`.
    pub fn of(case: &Case, exact: &Forward) -> Self {
        let (p, inputs) = (&case.problem, case.inputs());
        let mut errors = Self::zeros(case);
        for (batch, head) in (0..p.batch).flat_map(|b| (0..p.heads).map(move |h| (b, h))) {
            let map = |m| reference::attention_map(p, &inputs, batch, head, m).unwrap();
            let maps: Vec<Vec<f64>> = (0..p.maps).map(map).collect();
            for query in 0..p.query_len {
                let row = Row {
                    case,
                    inputs: &inputs,
                    exact,
                    batch,
                    head,
                    query,
                };
                errors.add_row(&row, &maps);
            }
        }
        errors.finish(case)
    }

    fn zeros(case: &Case) -> Self {
        let p = &case.problem;
        let rows = p.batch * p.query_len * p.heads;
        let zeros = |n: usize| vec![0.0; n];
        let forward = Forward {
            output: zeros(rows * p.value_dim),
            unnormalized: zeros(rows * p.value_dim),
            noise_output: zeros((p.maps - 1) * rows * p.value_dim),
            lse: zeros(rows * p.maps),
        };
        let backward = Gradients {
            query: zeros(case.query.len()),
            key: zeros(case.key.len()),
            value: zeros(case.value.len()),
            lambda: zeros((p.maps - 1) * rows),
            gamma: case.gamma.as_ref().map(|gamma| zeros(gamma.len())),
        };
        Self { forward, backward }
    }

    fn add_row(&mut self, row: &Row, maps: &[Vec<f64>]) {
        let p = &row.case.problem;
        let lambda = row.lambda();
        let (signal, noise) = (
            row.probabilities(&maps[0], 0),
            maps.get(1).map(|map| row.probabilities(map, 1)),
        );
        let mut output_error = row.output_error(&signal);
        let noise_error = noise
            .as_ref()
            .map_or(vec![0.0; p.value_dim], |noise| row.output_error(noise));
        add(&mut output_error, lambda.abs(), &noise_error);

        let place = row.place();
        let forward = &mut self.forward;
        for (m, map) in [Some(&signal), noise.as_ref()]
            .into_iter()
            .flatten()
            .enumerate()
        {
            forward.lse[row.lse(m)] = map.lse_error;
        }
        if noise.is_some() {
            forward.noise_output[place.clone()].copy_from_slice(&noise_error);
        }
        forward.unnormalized[place.clone()].copy_from_slice(&output_error);
        let normed = row.norm(&output_error);
        forward.output[place.clone()].copy_from_slice(&normed.output_error);
        if let Some(gamma) = &mut self.backward.gamma {
            add(gamma, 1.0, &normed.gamma_error);
        }

        let (grad, grad_error) = (&normed.grad, &normed.grad_error);
        let delta = |output: &[f64], error: &[f64]| Delta {
            value: dot(grad, output),
            error: magnitude(grad, output) + magnitude(grad, error) + magnitude(grad_error, output),
        };
        let noise_delta = noise
            .as_ref()
            .map(|_| delta(&row.exact.noise_output[place.clone()], &noise_error));
        let mut signal_delta = delta(&row.exact.unnormalized[place], &output_error);
        if let Some(noise) = &noise_delta {
            self.backward.lambda[row.index()] = noise.error;
            signal_delta.value += lambda * noise.value;
            signal_delta.error += lambda.abs() * noise.error;
        }
        self.add_gradients(row, 0, 1.0, &signal, &signal_delta, &normed);
        if let (Some(noise), Some(delta)) = (&noise, &noise_delta) {
            self.add_gradients(row, 1, lambda.abs(), noise, delta, &normed);
        }
    }

    /// Adds what map `m` of a row gives to the gradients of query, key and value.
    fn add_gradients(
        &mut self,
        row: &Row,
        m: usize,
        weight: f64,
        map: &Probabilities,
        delta: &Delta,
        normed: &Normed,
    ) {
        let p = &row.case.problem;
        let query = row.query(m)..row.query(m) + p.head_dim;
        for (&(key, probability), relative) in map.seen.iter().zip(&map.relative) {
            let (k, v) = (row.key(key, m), row.value(key));
            let value = &row.inputs.value[v..][..p.value_dim];
            let product = dot(&normed.grad, value);
            let product_error =
                magnitude(&normed.grad, value) + magnitude(&normed.grad_error, value);
            let weighted = weight * probability;
            let score = relative * (product - delta.value).abs() + product_error + delta.error;
            let score = f64::from(p.scale) * weighted * score;
            let backward = &mut self.backward;
            add(
                &mut backward.value[v..][..p.value_dim],
                weighted * relative,
                &normed.grad,
            );
            add(
                &mut backward.value[v..][..p.value_dim],
                weighted,
                &normed.grad_error,
            );
            add(
                &mut backward.query[query.clone()],
                score,
                &row.inputs.key[k..][..p.head_dim],
            );
            add(
                &mut backward.key[k..][..p.head_dim],
                score,
                &row.inputs.query[query.clone()],
            );
        }
    }

    /// Sums that of λ to λ's shape, and counts in unit roundoffs.
    fn finish(mut self, case: &Case) -> Self {
        if case.problem.maps == 2 {
            let full = &self.backward.lambda;
            self.backward.lambda =
                reference::reduce_to(full, case.rows(), &case.lambda_shape).unwrap();
        }
        let Self { forward, backward } = &mut self;
        let Forward {
            output,
            unnormalized,
            noise_output,
            lse,
        } = forward;
        let Gradients {
            query,
            key,
            value,
            lambda,
            gamma,
        } = backward;
        let all = [
            output,
            unnormalized,
            noise_output,
            lse,
            query,
            key,
            value,
            lambda,
        ];
        all.into_iter()
            .chain(gamma)
            .flatten()
            .for_each(|error| *error *= ROUNDOFF);
        self
    }
}

/// One query of one head.
struct Row<'a> {
    case: &'a Case,
    inputs: &'a Inputs,
    exact: &'a Forward,
    batch: usize,
    head: usize,
    query: usize,
}

/// What a row's map gives to the keys it sees.
struct Probabilities {
    /// Key and probability.
    seen: Vec<(usize, f64)>,
    /// Relative error of each probability.
    relative: Vec<f64>,
    lse_error: f64,
}

/// `rowsum(dO ⊙ O_m)`.
struct Delta {
    value: f64,
    error: f64,
}

/// A row through the norm, forward and backward.
struct Normed {
    output_error: Vec<f64>,
    gamma_error: Vec<f64>,
    /// Gradient of the output before the norm.
    grad: Vec<f64>,
    grad_error: Vec<f64>,
}

impl Row<'_> {
    fn problem(&self) -> &Problem {
        &self.case.problem
    }

    fn index(&self) -> usize {
        let p = self.problem();
        (self.batch * p.query_len + self.query) * p.heads + self.head
    }

    fn place(&self) -> core::ops::Range<usize> {
        let dim = self.problem().value_dim;
        self.index() * dim..(self.index() + 1) * dim
    }

    fn lse(&self, m: usize) -> usize {
        let p = self.problem();
        ((self.batch * p.heads + self.head) * p.maps + m) * p.query_len + self.query
    }

    fn query(&self, m: usize) -> usize {
        let p = self.problem();
        (self.index() * p.maps + m) * p.head_dim
    }

    fn key(&self, key: usize, m: usize) -> usize {
        let p = self.problem();
        self.key_row(key) * p.key_maps() * p.head_dim + m.min(p.key_maps() - 1) * p.head_dim
    }

    fn value(&self, key: usize) -> usize {
        self.key_row(key) * self.problem().value_dim
    }

    fn key_row(&self, key: usize) -> usize {
        let p = self.problem();
        (self.batch * p.key_len + key) * p.kv_heads + self.head / p.group()
    }

    fn lambda(&self) -> f64 {
        self.inputs.lambda.get(self.index()).copied().unwrap_or(0.0)
    }

    /// Scores err by the sum of their products' sizes; probabilities by that, by the log-sum-exp's error, and by that of
    /// an exponential: 3 + 2 |x| ulp, each two unit roundoffs, in Vulkan's table of precisions.
    fn probabilities(&self, map: &[f64], m: usize) -> Probabilities {
        let p = self.problem();
        let visible = p.mask.visible(self.query, p.query_len, p.key_len);
        let query = &self.inputs.query[self.query(m)..][..p.head_dim];
        let size = |key| {
            f64::from(p.scale.abs())
                * magnitude(query, &self.inputs.key[self.key(key, m)..][..p.head_dim])
        };
        let sizes: Vec<f64> = visible.clone().map(size).collect();
        let seen: Vec<(usize, f64)> = visible
            .map(|key| (key, map[self.query * p.key_len + key]))
            .collect();
        let lse = self.exact.lse[self.lse(m)].abs();
        let exponential = |size: f64| 2.0 * (3.0 + 2.0 * (size + lse));
        let error = |((_, probability), size): (&(usize, f64), &f64)| {
            probability * (size + exponential(*size))
        };
        let mean: f64 = seen.iter().zip(&sizes).map(error).sum();
        let lse_error = if seen.is_empty() {
            0.0
        } else {
            1.0 + lse + mean
        };
        let relative = sizes
            .iter()
            .map(|size| 1.0 + size + exponential(*size) + lse_error)
            .collect();
        Probabilities {
            seen,
            relative,
            lse_error,
        }
    }

    /// Error of `O_m`.
    fn output_error(&self, map: &Probabilities) -> Vec<f64> {
        let dim = self.problem().value_dim;
        let mut error = vec![0.0; dim];
        for (&(key, probability), relative) in map.seen.iter().zip(&map.relative) {
            add(
                &mut error,
                probability * relative,
                &self.inputs.value[self.value(key)..][..dim],
            );
        }
        error
    }

    /// Through the norm: with `x̂ = O r`, an error of O is one of x̂ itself and one of r.
    fn norm(&self, output_error: &[f64]) -> Normed {
        let dim = self.problem().value_dim;
        let incoming: Vec<f64> = self.case.grad_output[self.place()]
            .iter()
            .map(|x| f64::from(*x))
            .collect();
        let Some(norm) = self.problem().norm else {
            let zeros = vec![0.0; dim];
            return Normed {
                output_error: output_error.to_vec(),
                gamma_error: zeros.clone(),
                grad: incoming,
                grad_error: zeros,
            };
        };
        let output = &self.exact.unnormalized[self.place()];
        let mean = |sum: f64| sum / dim as f64;
        // A row of zeros stays zero.
        let r = match mean(dot(output, output)) + f64::from(norm.eps) {
            0.0 => 0.0,
            square => square.sqrt().recip(),
        };
        let factor = f64::from(norm.factor());
        let gain: Vec<f64> = (0..dim)
            .map(|c| factor * self.inputs.gamma.as_ref().map_or(1.0, |gamma| gamma[c]))
            .collect();
        let unit: Vec<f64> = output.iter().map(|o| o * r).collect();
        let r_error = 1.0 + mean(magnitude(&unit, output_error)) * r;
        let unit_error: Vec<f64> = unit
            .iter()
            .zip(output_error)
            .map(|(x, e)| e * r + x.abs() * r_error)
            .collect();
        let g: Vec<f64> = incoming
            .iter()
            .zip(&gain)
            .map(|(g, gain)| g * gain)
            .collect();
        let product = mean(dot(&g, &unit));
        let product_error = mean(magnitude(&g, &unit) + magnitude(&g, &unit_error));
        let grad = |c: usize| r * (g[c] - unit[c] * product);
        let grad_error = |c: usize| {
            let terms = g[c].abs() + unit_error[c] * product.abs() + unit[c].abs() * product_error;
            r * terms + grad(c).abs() * r_error
        };
        Normed {
            output_error: unit_error
                .iter()
                .zip(&gain)
                .map(|(e, gain)| e * gain.abs())
                .collect(),
            gamma_error: unit_error
                .iter()
                .zip(&incoming)
                .map(|(e, g)| (e * g * factor).abs())
                .collect(),
            grad: (0..dim).map(grad).collect(),
            grad_error: (0..dim).map(grad_error).collect(),
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// `Σ |x y|`
fn magnitude(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x * y).abs()).sum()
}

/// `y ← y + a |x|`
fn add(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += (a * x).abs();
    }
}
