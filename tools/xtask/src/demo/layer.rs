//! A differential attention layer on text: bytes, embedded and projected by seeded random weights, as query, key, value.

use anyhow::{Context, Result};
use diff_flash_attn::lambda::{LambdaVectors, lambda, lambda_init};
use diff_flash_attn::{DType, Mask, Norm, Problem, reference};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Sizes of the layer. Its width is `heads · 2 · dim`.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of text, N.
    pub(crate) seq: usize,
    /// Differential heads, H.
    pub(crate) heads: usize,
    /// Dimension of a query and of a key, d; a value has 2d.
    pub(crate) dim: usize,
    /// Layers below this one, which decide λ_init.
    pub(crate) depth: usize,
}

impl Sizes {
    fn width(self) -> usize {
        self.heads * 2 * self.dim
    }

    /// The layer's attention: causal, with the norm of the paper.
    fn problem(self, dtype: DType) -> Problem {
        Problem::differential(
            [1, self.seq, self.seq],
            [self.heads, self.heads],
            [self.dim, 2 * self.dim],
        )
        .with_mask(Mask::Causal)
        .with_dtype(dtype)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: lambda_init(self.depth),
        }))
    }
}

/// What attention is computed from. Every value is exact in the storage type, so all devices compute from the same.
pub(crate) struct Layer {
    /// The text, N bytes.
    pub(crate) text: Vec<u8>,
    /// Sizes, mask, norm.
    pub(crate) problem: Problem,
    /// Query `[1, N, H, 2, d]`, key `[1, N, H, 2, d]`, value `[1, N, H, 2d]`, λ `[1, N, H]`, γ `[2d]`.
    pub(crate) inputs: reference::Inputs,
    /// λ, one for the whole layer.
    pub(crate) lambda: f32,
    /// The gradient of a loss with respect to the output, `[1, N, H, 2d]`.
    pub(crate) grad_output: Vec<f64>,
}

impl Layer {
    /// A layer over the first `sizes.seq` bytes of `text`, which starts over where it is too short.
    pub(crate) fn new(text: &[u8], sizes: Sizes, dtype: DType) -> Result<Self> {
        let text: Vec<u8> = text.iter().copied().cycle().take(sizes.seq).collect();
        let mut weights = Weights(StdRng::seed_from_u64(0));
        let embedding = weights.matrix(256, sizes.width(), 1.0);
        let mut project = || weights.project(&embedding, &text, sizes.width());
        let (mut query, mut key, value) = (project(), project(), project());
        rotate(&mut query, sizes);
        rotate(&mut key, sizes);
        let lambda = weights.lambda(sizes)?;
        let gamma = weights
            .matrix(1, 2 * sizes.dim, 0.1)
            .into_iter()
            .map(|x| 1.0 + x)
            .collect();
        let grad_output = weights.matrix(sizes.seq, sizes.width(), 1.0);
        let inputs = reference::Inputs {
            query: stored(query, dtype),
            key: stored(key, dtype),
            value: stored(value, dtype),
            lambda: vec![lambda.into(); sizes.seq * sizes.heads],
            gamma: Some(stored(gamma, DType::F32)),
        };
        let grad_output = stored(grad_output, dtype);
        Ok(Self {
            text,
            problem: sizes.problem(dtype),
            inputs,
            lambda,
            grad_output,
        })
    }
}

/// Random weights of a layer that was never trained.
struct Weights(StdRng);

impl Weights {
    /// `[rows, columns]` of mean 0 and the given standard deviation.
    fn matrix(&mut self, rows: usize, columns: usize, deviation: f32) -> Vec<f32> {
        let bound = deviation * 3f32.sqrt();
        (0..rows * columns)
            .map(|_| self.0.random_range(-bound..bound))
            .collect()
    }

    /// `[text, width]`: each byte's embedding times a new `[width, width]` matrix that keeps its size.
    fn project(&mut self, embedding: &[f32], text: &[u8], width: usize) -> Vec<f32> {
        let weight = self.matrix(width, width, (width as f32).sqrt().recip());
        let mut projected = vec![None; 256];
        let mut rows = Vec::with_capacity(text.len() * width);
        for byte in text.iter().map(|byte| usize::from(*byte)) {
            let row = projected[byte].get_or_insert_with(|| {
                let embedded = &embedding[byte * width..][..width];
                let product = |row: &[f32]| row.iter().zip(embedded).map(|(w, x)| w * x).sum();
                weight.chunks(width).map(product).collect::<Vec<f32>>()
            });
            rows.extend_from_slice(row);
        }
        rows
    }

    /// `λ = exp(λ_q1·λ_k1) − exp(λ_q2·λ_k2) + λ_init`, the vectors drawn as the paper draws them.
    fn lambda(&mut self, sizes: Sizes) -> Result<f32> {
        let mut vector = || self.matrix(1, sizes.dim, 0.1);
        let (q1, k1, q2, k2) = (vector(), vector(), vector(), vector());
        let vectors = LambdaVectors {
            q1: &q1,
            k1: &k1,
            q2: &q2,
            k2: &k2,
        };
        lambda(&vectors, lambda_init(sizes.depth)).context("λ")
    }
}

/// Rotary position embedding: turns the pair `(x_2i, x_2i+1)` of each head at position `n` by the angle
/// `n · 10000^(−2i/d)` (RoFormer, arXiv 2104.09864).
fn rotate(rows: &mut [f32], sizes: Sizes) {
    for (position, row) in rows.chunks_mut(sizes.width()).enumerate() {
        for head in row.chunks_mut(sizes.dim) {
            for (i, pair) in head.chunks_mut(2).enumerate() {
                let frequency = 10000f32.powf(-2.0 * i as f32 / sizes.dim as f32);
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                let (x, y) = (pair[0], pair[1]);
                (pair[0], pair[1]) = (x * cos - y * sin, x * sin + y * cos);
            }
        }
    }
}

/// The values as `dtype` stores them.
fn stored(values: Vec<f32>, dtype: DType) -> Vec<f64> {
    let round: fn(f32) -> f64 = match dtype {
        DType::F32 => f64::from,
        DType::F16 => |x| f16::from_f32(x).to_f64(),
        DType::BF16 => |x| bf16::from_f32(x).to_f64(),
    };
    values.into_iter().map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        seq: 5,
        heads: 2,
        dim: 8,
        depth: 3,
    };

    #[test]
    fn fits_its_problem_and_is_the_same_every_time() {
        let layer = || Layer::new(b"abc", SIZES, DType::F16).expect("the layer");
        let (one, two) = (layer(), layer());
        assert_eq!(one.text, b"abcab");
        assert_eq!(one.inputs, two.inputs);
        let forward =
            reference::forward(&one.problem, &one.inputs).expect("inputs of the right sizes");
        assert_eq!(forward.output.len(), one.grad_output.len());
    }

    #[test]
    fn equal_bytes_differ_by_their_rotation_alone() {
        let Layer { inputs, .. } = Layer::new(b"aaaaa", SIZES, DType::F32).expect("the layer");
        let width = SIZES.width();
        let norm = |row: usize| -> f64 {
            inputs.key[row * width..][..width]
                .iter()
                .map(|x| x * x)
                .sum()
        };
        assert_eq!(inputs.value[..width], inputs.value[width..2 * width]);
        assert_ne!(inputs.key[..width], inputs.key[width..2 * width]);
        assert!((norm(0) - norm(4)).abs() < 1e-5 * norm(0));
    }
}
