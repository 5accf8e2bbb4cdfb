//! λ: its initial value by layer, its reparametrisation by four vectors, and that one's gradient, on the host and on
//! the device.

/// `λ_init = 0.8 − 0.6 · exp(−0.3 · layer)`, layers counted from 0 (Differential Transformer, arXiv 2410.05258,
/// section 2.1, which counts from 1).
///
/// ```
/// assert!((diff_flash_attn::lambda::lambda_init(0) - 0.2).abs() < 1e-6);
/// ```
pub fn lambda_init(layer: usize) -> f32 {
    (0.8 - 0.6 * (-0.3 * layer as f64).exp()) as f32
}
