//! Output, log-sum-exp and attention maps from the inputs.

use core::ops::Range;

use super::matrix::{add_scaled, dot};
use super::{Head, Inputs, batch_heads, output_heads};
use crate::error::{Error, Result};
use crate::problem::{Norm, Problem};

/// What the forward pass computes, the part that backward needs included.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// `[B, Nq, H, dv]`, the output: normalised, weighted and scaled if the problem has a norm.
    pub output: Vec<f64>,
    /// `[B, Nq, H, dv]`, `O = P_1 V − λ P_2 V`: the output before the norm.
    pub unnormalized: Vec<f64>,
    /// `[B, Nq, H, dv]`, `O_2 = P_2 V`; empty for standard attention.
    pub noise_output: Vec<f64>,
    /// `[B, H, maps, Nq]`, natural logarithm of `Σ_j exp(S_ij)`; −∞ where a query sees no key.
    pub lse: Vec<f64>,
}

/// `O = (P_1 − λ P_2) V` with `P_m = softmax(scale · Q_m K_mᵀ + mask)`, then
/// `γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)` if the problem has a norm.
///
/// With one map: standard attention, `O = P_1 V`. A query that sees no key has output 0.
///
/// # Errors
/// [`Error::Empty`], [`Error::Size`] or [`Error::HeadGroup`] if `problem` makes no sense, [`Error::Length`] or
/// [`Error::Presence`] if the inputs do not fit it.
///
/// See the [module](super) for an example.
pub fn forward(problem: &Problem, inputs: &Inputs) -> Result<Forward> {
    inputs.check(problem)?;
    let mut result = Forward::zeros(problem);
    for (batch, head) in batch_heads(problem) {
        let tensors = inputs.head(problem, batch, head);
        for query in 0..problem.query_len {
            let maps = attend(problem, &tensors, query);
            result.store(problem, inputs, [batch, head, query], &maps);
        }
    }
    Ok(result)
}

/// `P_map` of one query head, row-major `[Nq, Nk]`, 0 where the mask hides a key: a picture of what attends to what.
///
/// # Errors
/// As [`forward`]; and [`Error::Size`] if the problem has no such sequence, head or map.
///
/// ```
/// use diff_flash_attn::{Mask, Problem, reference};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let problem = Problem::standard([1, 2, 2], [1, 1], [1, 1]).with_mask(Mask::Causal);
/// let (query, key, value) = (vec![0.0; 2], vec![0.0; 2], vec![0.0; 2]);
/// let inputs = reference::Inputs { query, key, value, lambda: vec![], gamma: None };
/// assert_eq!(reference::attention_map(&problem, &inputs, 0, 0, 0)?, [1.0, 0.0, 0.5, 0.5]);
/// # Ok(())
/// # }
/// ```
pub fn attention_map(
    problem: &Problem,
    inputs: &Inputs,
    batch: usize,
    head: usize,
    map: usize,
) -> Result<Vec<f64>> {
    inputs.check(problem)?;
    for (axis, index, size) in [
        ("batch", batch, problem.batch),
        ("head", head, problem.heads),
        ("map", map, problem.maps),
    ] {
        if index >= size {
            let shape = vec![problem.batch, problem.heads, problem.maps];
            return Err(Error::Size {
                tensor: "attention map",
                axis,
                got: size,
                expected: index + 1,
                shape,
            });
        }
    }
    let tensors = inputs.head(problem, batch, head);
    let mut picture = vec![0.0; problem.query_len * problem.key_len];
    for query in 0..problem.query_len {
        let keys = visible(problem, query);
        let row = &mut picture[query * problem.key_len..][keys.clone()];
        row.copy_from_slice(&softmax(scores(problem, &tensors, map, query, keys)).0);
    }
    Ok(picture)
}

/// One map's row: `P_m` over the visible keys, its log-sum-exp, and `O_m`.
pub(super) struct MapRow {
    pub(super) probabilities: Vec<f64>,
    pub(super) lse: f64,
    pub(super) output: Vec<f64>,
}

/// The row of every map of one query.
pub(super) fn attend(problem: &Problem, head: &Head, query: usize) -> Vec<MapRow> {
    let keys = visible(problem, query);
    let row = |map| {
        let (probabilities, lse) = softmax(scores(problem, head, map, query, keys.clone()));
        let mut output = vec![0.0; problem.value_dim];
        for (p, key) in probabilities.iter().zip(keys.clone()) {
            add_scaled(&mut output, *p, head.value.row(key));
        }
        MapRow {
            probabilities,
            lse,
            output,
        }
    };
    (0..problem.maps).map(row).collect()
}

/// The keys that a query sees.
pub(super) fn visible(problem: &Problem, query: usize) -> Range<usize> {
    problem
        .mask
        .visible(query, problem.query_len, problem.key_len)
}

/// `O = Σ_m w_m O_m`
pub(super) fn combine(weights: [f64; 2], maps: &[MapRow]) -> Vec<f64> {
    let mut output = vec![0.0; maps[0].output.len()];
    for (weight, map) in weights.iter().zip(maps) {
        add_scaled(&mut output, *weight, &map.output);
    }
    output
}

/// `rsqrt(mean(O²) + eps)`, and 0 for a row of zeros with no eps.
pub(super) fn inverse_rms(output: &[f64], norm: Norm) -> f64 {
    let square = dot(output, output) / output.len() as f64 + f64::from(norm.eps);
    if square > 0.0 {
        square.sqrt().recip()
    } else {
        0.0
    }
}

/// `γ_c (1 − λ_init)`, the factor of each normalised output.
pub(super) fn norm_weight(inputs: &Inputs, norm: Norm, channel: usize) -> f64 {
    let gamma = inputs.gamma.as_ref().map_or(1.0, |gamma| gamma[channel]);
    gamma * (1.0 - f64::from(norm.lambda_init))
}

/// `scale · q · k_j` over the visible keys.
fn scores(
    problem: &Problem,
    head: &Head,
    map: usize,
    query: usize,
    keys: Range<usize>,
) -> Vec<f64> {
    let query = head.query[map].row(query);
    let scale = f64::from(problem.scale);
    keys.map(|key| scale * dot(query, head.key[map].row(key)))
        .collect()
}

/// `exp(s_j − lse)` and `lse = ln Σ_j exp(s_j)`, which is −∞ for no scores at all.
fn softmax(mut scores: Vec<f64>) -> (Vec<f64>, f64) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for score in &mut scores {
        *score = (*score - max).exp();
    }
    let sum: f64 = scores.iter().sum();
    for score in &mut scores {
        *score /= sum;
    }
    (scores, max + sum.ln())
}

/// `γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)`
fn normalize(inputs: &Inputs, norm: Norm, output: &[f64]) -> Vec<f64> {
    let r = inverse_rms(output, norm);
    output
        .iter()
        .enumerate()
        .map(|(c, o)| o * r * norm_weight(inputs, norm, c))
        .collect()
}

impl Forward {
    fn zeros(problem: &Problem) -> Self {
        let rows = problem.batch * problem.query_len * problem.heads;
        let output = vec![0.0; rows * problem.value_dim];
        Self {
            unnormalized: output.clone(),
            noise_output: if problem.maps == 2 {
                output.clone()
            } else {
                vec![]
            },
            output,
            lse: vec![f64::NEG_INFINITY; rows * problem.maps],
        }
    }

    /// Writes one row, unless it sees no key: then it stays 0.
    fn store(&mut self, problem: &Problem, inputs: &Inputs, place: [usize; 3], maps: &[MapRow]) {
        let [batch, head, query] = place;
        if visible(problem, query).is_empty() {
            return;
        }
        let row = output_heads(problem).row(batch, head, query);
        let output = combine(inputs.weights(row.start / problem.value_dim), maps);
        for (map, values) in maps.iter().enumerate() {
            let line = (batch * problem.heads + head) * problem.maps + map;
            self.lse[line * problem.query_len + query] = values.lse;
        }
        if let Some(noise) = maps.get(1) {
            self.noise_output[row.clone()].copy_from_slice(&noise.output);
        }
        self.unnormalized[row.clone()].copy_from_slice(&output);
        let output = problem
            .norm
            .map_or(output.clone(), |norm| normalize(inputs, norm, &output));
        self.output[row].copy_from_slice(&output);
    }
}
