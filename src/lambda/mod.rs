//! λ: its initial value by layer, its reparametrisation by four vectors, and that one's gradient, on the host and on
//! the device.

mod device;

pub use device::{LambdaTensors, lambda_gradient_on_device, lambda_on_device};
pub use reference::{LambdaGradient, LambdaVectors};

use crate::error::Result;
use crate::reference;

/// `λ_init = 0.8 − 0.6 · exp(−0.3 · layer)`, layers counted from 0 (Differential Transformer, arXiv 2410.05258,
/// section 2.1, which counts from 1).
///
/// ```
/// assert!((diff_flash_attn::lambda::lambda_init(0) - 0.2).abs() < 1e-6);
/// ```
pub fn lambda_init(layer: usize) -> f32 {
    (0.8 - 0.6 * (-0.3 * layer as f64).exp()) as f32
}

/// `λ = exp(q1·k1) − exp(q2·k2) + λ_init`, computed in `f64` on the host and rounded once.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if the vectors are not all of one length.
///
/// ```
/// use diff_flash_attn::lambda::{LambdaVectors, lambda, lambda_init};
/// let vectors = LambdaVectors { q1: &[0.1, 0.0], k1: &[0.0, 0.3], q2: &[0.2, 0.0], k2: &[0.0, 0.1] };
/// assert_eq!(lambda(&vectors, lambda_init(3))?, lambda_init(3));
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn lambda(vectors: &LambdaVectors<'_>, lambda_init: f32) -> Result<f32> {
    Ok(reference::lambda(&Wide::of(vectors).vectors(), lambda_init.into())? as f32)
}

/// Gradients of the four vectors from `grad_lambda = dλ`: `dq1 = dλ · exp(q1·k1) · k1`, and so on.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if the vectors are not all of one length.
///
/// ```
/// use diff_flash_attn::lambda::{LambdaVectors, lambda_gradient};
/// let vectors = LambdaVectors { q1: &[0.0], k1: &[0.5], q2: &[0.0], k2: &[0.25] };
/// let gradient = lambda_gradient(&vectors, 2.0)?;
/// assert_eq!((gradient.q1, gradient.k1, gradient.q2), (vec![1.0], vec![0.0], vec![-0.5]));
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
pub fn lambda_gradient(vectors: &LambdaVectors<'_>, grad_lambda: f32) -> Result<LambdaGradient> {
    let gradient = reference::lambda_gradient(&Wide::of(vectors).vectors(), grad_lambda.into())?;
    let round = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
    Ok(LambdaGradient {
        q1: round(gradient.q1),
        k1: round(gradient.k1),
        q2: round(gradient.q2),
        k2: round(gradient.k2),
    })
}

/// The four vectors in `f64`: q1, k1, q2, k2.
struct Wide([Vec<f64>; 4]);

impl Wide {
    fn of(vectors: &LambdaVectors<'_>) -> Self {
        let LambdaVectors { q1, k1, q2, k2 } = *vectors;
        Self([q1, k1, q2, k2].map(|vector| vector.iter().map(|x| f64::from(*x)).collect()))
    }

    fn vectors(&self) -> LambdaVectors<'_, f64> {
        let [q1, k1, q2, k2] = &self.0;
        LambdaVectors { q1, k1, q2, k2 }
    }
}
