//! λ from its four vectors, and their gradients.

pub(crate) mod kernel;
mod step;

use crate::plan::{Draft, View};
use step::{FromVectors, VectorGradients};

/// λ's four vectors: q1, k1, q2, k2, each `[d]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    pub views: [View; 4],
    pub dim: usize,
}

/// Plans `λ = exp(q1 · k1) − exp(q2 · k2) + λ_init`.
pub(crate) fn plan_lambda(vectors: Vectors, lambda: View, initial: f32) -> Draft {
    let mut draft = Draft::default();
    draft.push(FromVectors {
        vectors,
        lambda,
        initial,
    });
    draft
}

/// Plans the gradients of the vectors, `[4, d]`, from that of λ.
pub(crate) fn plan_gradients(vectors: Vectors, grad_lambda: View, target: View) -> Draft {
    let mut draft = Draft::default();
    draft.push(VectorGradients {
        vectors,
        grad_lambda,
        target,
    });
    draft
}
