//! Random inputs of a problem, rounded to its storage type: the reference and the device then see the same numbers.

use diff_flash_attn::reference::{self, Forward, Gradients, Inputs};
use diff_flash_attn::{DType, Problem};
use half::{bf16, f16};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A problem and its inputs: row-major, exactly representable in the problem's storage type (λ and γ in `f32`).
#[derive(Debug, Clone)]
pub struct Case {
    /// The problem.
    pub problem: Problem,
    /// `[B, Nq, H, maps, d]`
    pub query: Vec<f32>,
    /// `[B, Nk, Hk, maps, d]`, or `[B, Nk, Hk, 1, d]` where both maps share the key
    pub key: Vec<f32>,
    /// `[B, Nk, Hk, dv]`
    pub value: Vec<f32>,
    /// `lambda_shape`, empty for standard attention
    pub lambda: Vec<f32>,
    /// Broadcastable to `[B, Nq, H]`
    pub lambda_shape: Vec<usize>,
    /// `[dv]`
    pub gamma: Option<Vec<f32>>,
    /// `[B, Nq, H, dv]`
    pub grad_output: Vec<f32>,
}

impl Case {
    /// Standard normal inputs, λ uniform in [−0.5, 1.5), γ uniform in [0.5, 1.5): the same for the same seed.
    pub fn random(problem: Problem, lambda_shape: &[usize], gamma: bool, seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let round = rounding(problem.dtype);
        let Problem {
            batch,
            query_len,
            key_len,
            heads,
            kv_heads,
            head_dim,
            value_dim,
            maps,
            ..
        } = problem;
        let (rows, keys) = (batch * query_len * heads, batch * key_len * kv_heads);
        let mut normals = |len| -> Vec<f32> { (0..len).map(|_| round(normal(rng))).collect() };
        let query = normals(rows * maps * head_dim);
        let key = normals(keys * problem.key_maps() * head_dim);
        let value = normals(keys * value_dim);
        let grad_output = normals(rows * value_dim);
        let lambdas = if maps == 2 {
            lambda_shape.iter().product()
        } else {
            0
        };
        let mut uniforms = |len, low: f32| -> Vec<f32> {
            (0..len)
                .map(|_| low + rng.random_range(0.0..if low < 0.0 { 2.0 } else { 1.0 }))
                .collect()
        };
        let lambda = uniforms(lambdas, -0.5);
        let gamma = gamma.then(|| uniforms(value_dim, 0.5));
        let lambda_shape = lambda_shape.to_vec();
        Self {
            problem,
            query,
            key,
            value,
            lambda,
            lambda_shape,
            gamma,
            grad_output,
        }
    }

    /// Shape of the query as a device tensor: no pair axis for standard attention.
    pub fn query_shape(&self) -> Vec<usize> {
        let p = &self.problem;
        with_pair(&[p.batch, p.query_len, p.heads], p.maps, p.maps, p.head_dim)
    }

    /// Shape of the key as a device tensor: no pair axis for standard attention, one of size 1 for a shared key.
    pub fn key_shape(&self) -> Vec<usize> {
        let p = &self.problem;
        with_pair(
            &[p.batch, p.key_len, p.kv_heads],
            p.maps,
            p.key_maps(),
            p.head_dim,
        )
    }

    /// Shape of the value as a device tensor.
    pub fn value_shape(&self) -> Vec<usize> {
        vec![
            self.problem.batch,
            self.problem.key_len,
            self.problem.kv_heads,
            self.problem.value_dim,
        ]
    }

    /// Shape of the output and its gradient.
    pub fn output_shape(&self) -> Vec<usize> {
        vec![
            self.problem.batch,
            self.problem.query_len,
            self.problem.heads,
            self.problem.value_dim,
        ]
    }

    /// `[B, Nq, H]`, which λ is broadcast to.
    pub fn rows(&self) -> [usize; 3] {
        [
            self.problem.batch,
            self.problem.query_len,
            self.problem.heads,
        ]
    }

    /// The inputs of the reference.
    pub fn inputs(&self) -> Inputs {
        let lambda = match self.problem.maps {
            1 => vec![],
            _ => reference::expand(&wide(&self.lambda), &self.lambda_shape, self.rows()).unwrap(),
        };
        Inputs {
            query: wide(&self.query),
            key: wide(&self.key),
            value: wide(&self.value),
            lambda,
            gamma: self.gamma.as_deref().map(wide),
        }
    }

    /// The reference's forward pass.
    pub fn forward(&self) -> Forward {
        reference::forward(&self.problem, &self.inputs()).unwrap()
    }

    /// The reference's gradients, that of λ in λ's own shape.
    pub fn backward(&self) -> Gradients {
        let rows = self.backward_rows();
        let lambda = self.reduce(&rows.lambda);
        Gradients { lambda, ..rows }
    }

    /// The reference's gradients, that of λ for every row.
    pub fn backward_rows(&self) -> Gradients {
        reference::backward(&self.problem, &self.inputs(), &wide(&self.grad_output)).unwrap()
    }

    /// Sums what is there for every row, if anything is, to the shape of λ.
    pub fn reduce(&self, rows: &[f64]) -> Vec<f64> {
        if rows.is_empty() {
            return vec![];
        }
        reference::reduce_to(rows, self.rows(), &self.lambda_shape).unwrap()
    }
}

/// `values` in `f64`.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// Rounds to a storage type.
pub fn rounding(dtype: DType) -> fn(f32) -> f32 {
    match dtype {
        DType::F32 => |x| x,
        DType::F16 => |x| f16::from_f32(x).to_f32(),
        DType::BF16 => |x| bf16::from_f32(x).to_f32(),
    }
}

fn with_pair(outer: &[usize], maps: usize, pair: usize, dim: usize) -> Vec<usize> {
    let pair = (maps == 2).then_some(pair);
    outer.iter().copied().chain(pair).chain([dim]).collect()
}

/// A standard normal number (Box and Muller's transform of two uniform ones).
fn normal(rng: &mut StdRng) -> f32 {
    let (u, v): (f32, f32) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (core::f32::consts::TAU * v).cos()
}
