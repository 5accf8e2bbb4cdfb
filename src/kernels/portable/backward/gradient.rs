//! From scores and dP to the gradients of the scores, for one (query, key) pair.

use cubecl::prelude::*;

use crate::kernels::portable::tile::Tile;

/// Statistics of one query: log-sum-exp and δ of each map, and λ.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Differential {
    lse: f32,
    delta: f32,
    noise_lse: f32,
    noise_delta: f32,
    lambda: f32,
}

#[cube]
impl Differential {
    /// Reads entry `at` of each statistics plane.
    pub fn load(
        statistics: &[f32],
        at: usize,
        plane: usize,
        #[comptime] maps: usize,
    ) -> Differential {
        if comptime!(maps == 2) {
            Differential {
                lse: statistics[at],
                noise_lse: statistics[plane + at],
                delta: statistics[2 * plane + at],
                noise_delta: statistics[3 * plane + at],
                lambda: statistics[4 * plane + at],
            }
        } else {
            Differential {
                lse: statistics[at],
                noise_lse: 0.0f32.runtime(),
                delta: statistics[plane + at],
                noise_delta: 0.0f32.runtime(),
                lambda: 0.0f32.runtime(),
            }
        }
    }
}

/// Replaces the scores of element `at` of the unit's `[rows, cols]` by their gradients, and its dP by the combined
/// probability: `dS_1 = P_1 (dP − δ_1)`, `dS_2 = −λ P_2 (dP − δ_2)`, `P = P_1 − λ P_2`.
#[cube]
pub(crate) fn score_gradients(
    scores: &mut Array<f32>,
    grad_weights: &mut Array<f32>,
    row: &Differential,
    #[comptime] at: usize,
    #[comptime] maps: usize,
    #[comptime] tile: Tile,
) {
    let grad = grad_weights[at];
    let signal = (scores[at] - row.lse).exp();
    scores[at] = signal * (grad - row.delta);
    grad_weights[at] = signal;
    if comptime!(maps == 2) {
        let noise_at = comptime!(tile.rows * tile.cols + at);
        let noise = row.lambda * (scores[noise_at] - row.noise_lse).exp();
        scores[noise_at] = -noise * (grad - row.noise_delta);
        grad_weights[at] = signal - noise;
    }
}
