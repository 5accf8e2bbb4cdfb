//! λ from four vectors and their gradients, in `f64`.

use crate::error::{Error, Result};

/// The learned vectors `[d]` that λ is made of, one set for a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambdaVectors<'a, T = f32> {
    /// λ_q1.
    pub q1: &'a [T],
    /// λ_k1.
    pub k1: &'a [T],
    /// λ_q2.
    pub q2: &'a [T],
    /// λ_k2.
    pub k2: &'a [T],
}

/// Gradients `[d]` of [`LambdaVectors`].
#[derive(Debug, Clone, PartialEq)]
pub struct LambdaGradient<T = f32> {
    /// Gradient of λ_q1.
    pub q1: Vec<T>,
    /// Gradient of λ_k1.
    pub k1: Vec<T>,
    /// Gradient of λ_q2.
    pub q2: Vec<T>,
    /// Gradient of λ_k2.
    pub k2: Vec<T>,
}

/// `λ = exp(q1·k1) − exp(q2·k2) + λ_init` (Differential Transformer, arXiv 2410.05258, section 2.1).
///
/// # Errors
/// [`Error::Size`] if the vectors are not all of one length.
///
/// ```
/// use diff_flash_attn::{lambda::LambdaVectors, reference};
/// let vectors = LambdaVectors { q1: &[1.0, 0.0], k1: &[0.0, 1.0], q2: &[0.5, 0.0], k2: &[0.0, 0.5] };
/// assert_eq!(reference::lambda(&vectors, 0.8)?, 0.8);
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn lambda(vectors: &LambdaVectors<'_, f64>, lambda_init: f64) -> Result<f64> {
    let [signal, noise] = exponentials(vectors)?;
    Ok(signal - noise + lambda_init)
}

/// Gradients of the four vectors from `grad_lambda = dλ`: `dq1 = dλ · exp(q1·k1) · k1`, `dk1` with `q1` in its place,
/// and `dq2`, `dk2` the same with the other sign.
///
/// # Errors
/// [`Error::Size`] if the vectors are not all of one length.
///
/// ```
/// use diff_flash_attn::{lambda::LambdaVectors, reference};
/// let vectors = LambdaVectors { q1: &[0.0], k1: &[2.0], q2: &[0.0], k2: &[3.0] };
/// let gradient = reference::lambda_gradient(&vectors, 10.0)?;
/// assert_eq!((gradient.q1, gradient.q2), (vec![20.0], vec![-30.0]));
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn lambda_gradient(
    vectors: &LambdaVectors<'_, f64>,
    grad_lambda: f64,
) -> Result<LambdaGradient<f64>> {
    let [signal, noise] = exponentials(vectors)?;
    let scaled = |a: f64, vector: &[f64]| vector.iter().map(|x| a * x).collect();
    Ok(LambdaGradient {
        q1: scaled(grad_lambda * signal, vectors.k1),
        k1: scaled(grad_lambda * signal, vectors.q1),
        q2: scaled(-grad_lambda * noise, vectors.k2),
        k2: scaled(-grad_lambda * noise, vectors.q2),
    })
}

/// `exp(q1·k1)` and `exp(q2·k2)`.
fn exponentials(vectors: &LambdaVectors<'_, f64>) -> Result<[f64; 2]> {
    let LambdaVectors { q1, k1, q2, k2 } = *vectors;
    for (tensor, vector) in [("lambda_k1", k1), ("lambda_q2", q2), ("lambda_k2", k2)] {
        let (got, expected) = (vector.len(), q1.len());
        if got != expected {
            return Err(Error::Size {
                tensor,
                axis: "dim",
                got,
                expected,
                shape: vec![got],
            });
        }
    }
    Ok([(q1, k1), (q2, k2)].map(|(q, k)| super::matrix::dot(q, k).exp()))
}
