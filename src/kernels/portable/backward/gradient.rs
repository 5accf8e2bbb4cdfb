//! From scores and dP to the gradients of the scores.

use cubecl::prelude::*;

use super::shape::GradientShape;
use crate::kernels::passes::statistics::planes::Differential;
use crate::kernels::portable::unit::filled;

/// Scores of a unit, `[maps, rows, cols]`, and dP, `[rows, cols]`.
#[derive(CubeType)]
pub(super) struct Scores {
    pub scores: Array<f32>,
    pub grads: Array<f32>,
}

#[cube]
impl Scores {
    /// All zero.
    pub fn new(#[comptime] shape: GradientShape) -> Scores {
        let len = comptime!(shape.tile.rows * shape.tile.cols);
        let scores = filled(0.0, comptime!(shape.maps * len));
        let grads = filled(0.0, len);
        Scores { scores, grads }
    }

    /// Replaces the scores of element `at` of `[rows, cols]` by their gradients, and its dP by the combined probability:
    /// `dS_1 = P_1 (dP − δ_1)`, `dS_2 = −λ P_2 (dP − δ_2)`, `P = P_1 − λ P_2`.
    pub fn differentiate(
        &mut self,
        row: &Differential,
        #[comptime] at: usize,
        #[comptime] shape: GradientShape,
    ) {
        let grad = self.grads[at];
        let signal = (self.scores[at] - row.lse).exp();
        self.scores[at] = signal * (grad - row.delta);
        self.grads[at] = signal;
        if comptime!(shape.maps == 2) {
            let noise_at = comptime!(shape.tile.rows * shape.tile.cols + at);
            let noise = row.lambda * (self.scores[noise_at] - row.noise_lse).exp();
            self.scores[noise_at] = -noise * (grad - row.noise_delta);
            self.grads[at] = signal - noise;
        }
    }
}
