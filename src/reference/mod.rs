//! The same operations in `f64` on the CPU, as close to the formulas as Rust allows: what the kernels are checked
//! against, and what to read first.
//!
//! Every tensor is a row-major slice of the shape that its documentation names. One query row is computed at a time, so
//! memory is linear in the sequence lengths.
//!
//! ```
//! use diff_flash_attn::{Mask, Problem, reference};
//! # fn main() -> Result<(), diff_flash_attn::Error> {
//! let problem = Problem::differential([1, 2, 2], [1, 1], [1, 1]).with_mask(Mask::Causal);
//! let inputs = reference::Inputs {
//!     query: vec![0.0; 4], // both maps are uniform over the keys that are seen
//!     key: vec![1.0, 2.0, 3.0, 4.0],
//!     value: vec![6.0, 2.0],
//!     lambda: vec![0.5; 2],
//!     gamma: None,
//! };
//! let forward = reference::forward(&problem, &inputs)?;
//! assert_eq!(forward.output, [3.0, 2.0]);
//! let gradients = reference::backward(&problem, &inputs, &[1.0, 1.0])?;
//! assert_eq!(gradients.lambda, [-6.0, -4.0]);
//! # Ok(())
//! # }
//! ```

mod backward;
mod broadcast;
mod forward;
mod lambda;
mod matrix;

pub use backward::{Gradients, backward};
pub use broadcast::{expand, reduce_to};
pub use forward::{Forward, attention_map, forward};
pub use lambda::{LambdaGradient, LambdaVectors, lambda, lambda_gradient};

use crate::error::{Error, Result};
use crate::problem::Problem;
use matrix::{Heads, Matrix};

/// What attention is computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// `[B, Nq, H, maps, d]`.
    pub query: Vec<f64>,
    /// `[B, Nk, Hk, maps, d]`, or `[B, Nk, Hk, 1, d]` where both maps share the key.
    pub key: Vec<f64>,
    /// `[B, Nk, Hk, dv]`.
    pub value: Vec<f64>,
    /// `[B, Nq, H]`, empty for standard attention. [`expand`] repeats a λ that is shared.
    pub lambda: Vec<f64>,
    /// `[dv]`, the weight of the norm; 1 where there is none.
    pub gamma: Option<Vec<f64>>,
}

impl Inputs {
    /// Refuses slices that do not have the sizes of `problem`.
    fn check(&self, problem: &Problem) -> Result<()> {
        let (query, key, value) = (
            problem.query_shape(),
            problem.key_shape(),
            problem.value_shape(),
        );
        let (heads, kv_heads, maps) = (problem.heads, problem.kv_heads, problem.maps);
        if !(1..=2).contains(&maps) {
            let shape = query.to_vec();
            return Err(Error::Size {
                tensor: "query",
                axis: "map",
                got: maps,
                expected: 2,
                shape,
            });
        }
        check_sizes("query", &["batch", "query", "head", "map", "dim"], &query)?;
        check_sizes("key", &["batch", "key", "head", "map", "dim"], &key)?;
        check_sizes("value", &["batch", "key", "head", "dim"], &value)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::HeadGroup { heads, kv_heads });
        }
        check_len(&self.query, &query)?;
        check_len(&self.key, &key)?;
        check_len(&self.value, &value)?;
        let [batch, query_len, ..] = query;
        check_len(&self.lambda, &[batch, query_len, heads, maps - 1])?;
        match (&self.gamma, problem.norm) {
            (Some(_), None) => {
                let problem = "given, but the problem has no norm";
                Err(Error::Presence {
                    tensor: "gamma",
                    problem,
                })
            }
            (Some(gamma), Some(_)) => check_len(gamma, &[problem.value_dim]),
            (None, _) => Ok(()),
        }
    }

    /// Weights of the maps in the output of one row: `O = Σ_m w_m O_m`, `w = (1, −λ)`.
    fn weights(&self, row: usize) -> [f64; 2] {
        [1.0, self.lambda.get(row).map_or(0.0, |lambda| -lambda)]
    }

    /// Query, key and value of one query head: a matrix for each map, and the value.
    fn head(&self, problem: &Problem, batch: usize, head: usize) -> Head {
        let maps = 0..problem.maps;
        let query =
            |map| query_heads(problem).gather(&self.query, batch, query_head(problem, head, map));
        let key = |map| key_heads(problem).gather(&self.key, batch, key_head(problem, head, map));
        Head {
            query: maps.clone().map(query).collect(),
            key: maps.map(key).collect(),
            value: value_heads(problem).gather(&self.value, batch, head / problem.group()),
        }
    }
}

/// One query head: the queries `[Nq, d]` and keys `[Nk, d]` of each map, and the values `[Nk, dv]`.
struct Head {
    query: Vec<Matrix>,
    key: Vec<Matrix>,
    value: Matrix,
}

fn check_sizes(tensor: &'static str, axes: &[&'static str], shape: &[usize]) -> Result<()> {
    match shape.iter().position(|size| *size == 0) {
        Some(at) => Err(Error::Empty {
            tensor,
            axis: axes[at],
            shape: shape.to_vec(),
        }),
        None => Ok(()),
    }
}

fn check_len(values: &[f64], shape: &[usize]) -> Result<()> {
    let (got, expected) = (values.len(), shape.iter().product());
    if got != expected {
        return Err(Error::Length {
            got,
            expected,
            shape: shape.to_vec(),
        });
    }
    Ok(())
}

/// All query heads of the batch, as (batch, head).
fn batch_heads(problem: &Problem) -> impl Iterator<Item = (usize, usize)> {
    let heads = problem.heads;
    (0..problem.batch).flat_map(move |batch| (0..heads).map(move |head| (batch, head)))
}

fn query_heads(problem: &Problem) -> Heads {
    Heads {
        len: problem.query_len,
        heads: problem.heads * problem.maps,
        width: problem.head_dim,
    }
}

fn key_heads(problem: &Problem) -> Heads {
    Heads {
        len: problem.key_len,
        heads: problem.kv_heads * problem.key_maps(),
        width: problem.head_dim,
    }
}

fn value_heads(problem: &Problem) -> Heads {
    Heads {
        len: problem.key_len,
        heads: problem.kv_heads,
        width: problem.value_dim,
    }
}

fn output_heads(problem: &Problem) -> Heads {
    Heads {
        len: problem.query_len,
        heads: problem.heads,
        width: problem.value_dim,
    }
}

/// A query head's place among all queries of a token.
fn query_head(problem: &Problem, head: usize, map: usize) -> usize {
    head * problem.maps + map
}

/// The key that a query head uses, among all keys of a token.
fn key_head(problem: &Problem, head: usize, map: usize) -> usize {
    let map = if problem.shared_key { 0 } else { map };
    head / problem.group() * problem.key_maps() + map
}
