//! The tensors of one problem, random, and the views of them that each variant reads.

use std::cell::OnceCell;

use anyhow::Result;
use cubecl::prelude::*;
use diff_flash_attn::{DType, Direction, Inputs, Options, Problem, Tensor};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::variant::Results;

/// λ of every head.
pub(crate) const LAMBDA: f32 = 0.5;

/// The inputs of a differential problem, row-major in the axis order of the paper's code.
pub(crate) struct Data {
    pub(crate) client: Client,
    pub(crate) problem: Problem,
    pub(crate) direction: Direction,
    /// `[B, Nq, H, 2, d]`.
    query: Tensor,
    /// `[B, Nk, H, 2, d]`.
    key: Tensor,
    /// `[B, Nk, H, dv]`.
    pub(crate) value: Tensor,
    /// `[1]`.
    lambda: Tensor,
    /// `[B, Nq, H, dv]`.
    pub(crate) grad_output: Tensor,
    expected: OnceCell<Results>,
}

impl Data {
    /// Uniform with mean 0 and variance 1, so that scores have variance 1 too; the same at every run.
    pub(crate) fn random(client: Client, problem: Problem, direction: Direction) -> Result<Self> {
        let (batch, length, heads) = (problem.batch, problem.query_len, problem.heads);
        let (dim, value_dim) = (problem.head_dim, problem.value_dim);
        let mut random = StdRng::seed_from_u64(1);
        let mut tensor = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| 3f32.sqrt() * random.random_range(-1.0..1.0))
                .collect();
            Tensor::from_f32(&client, problem.dtype, shape, &values)
        };
        Ok(Self {
            query: tensor(&[batch, length, heads, 2, dim])?,
            key: tensor(&[batch, length, heads, 2, dim])?,
            value: tensor(&[batch, length, heads, value_dim])?,
            lambda: Tensor::from_f32(&client, DType::F32, &[1], &[LAMBDA])?,
            grad_output: tensor(&[batch, length, heads, value_dim])?,
            expected: OnceCell::new(),
            client,
            problem,
            direction,
        })
    }

    /// What the calls need beside tensors. A forward pass to be timed saves nothing.
    pub(crate) fn options(&self) -> Options {
        Options::default()
            .with_mask(self.problem.mask)
            .with_save_for_backward(self.direction == Direction::Backward)
    }

    /// All of it.
    pub(crate) fn differential(&self) -> Inputs {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(Tensor::clone);
        Inputs::differential(query, key, value, self.lambda.clone())
    }

    /// Map `map` with all of the value.
    pub(crate) fn one_map(&self, map: usize) -> Inputs {
        let [query, key] = [&self.query, &self.key].map(|tensor| of_map(tensor, map));
        Inputs::standard(query, key, self.value.clone())
    }

    /// The same memory as standard attention of 2H heads, each with half of a value.
    pub(crate) fn standard(&self) -> Inputs {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|t| self.split(t));
        Inputs::standard(query, key, value)
    }

    /// `[B, N, H, 2, d]` or `[B, N, H, dv]` with twice as many heads.
    pub(crate) fn split(&self, tensor: &Tensor) -> Tensor {
        let Problem {
            batch,
            query_len,
            heads,
            dtype,
            ..
        } = self.problem;
        let dim = tensor.len() / (batch * query_len * 2 * heads);
        let shape = [batch, query_len, 2 * heads, dim];
        Tensor::contiguous(tensor.handle().clone(), dtype, &shape)
    }

    /// `[B, N, 2H, d]`, row-major, as `[B, N, H, 2, d]`.
    pub(crate) fn pair(&self, tensor: &Tensor) -> Tensor {
        let [batch, length, heads, dim] = [0, 1, 2, 3].map(|axis| tensor.shape()[axis]);
        let shape = [batch, length, heads / 2, 2, dim];
        Tensor::contiguous(tensor.handle().clone(), tensor.dtype(), &shape)
    }

    /// The gradient of the output of one map, `dO` or `−λ dO`.
    pub(crate) fn grad_of_map(&self, map: usize) -> Result<Tensor> {
        if map == 0 {
            return Ok(self.grad_output.clone());
        }
        let mut values = self.grad_output.to_f32(&self.client)?;
        values.iter_mut().for_each(|x| *x *= -LAMBDA);
        let shape = self.grad_output.shape();
        Ok(Tensor::from_f32(
            &self.client,
            self.problem.dtype,
            shape,
            &values,
        )?)
    }

    /// What every variant of the differential problem should give; computed at the first call.
    pub(crate) fn expected(&self, compute: impl FnOnce() -> Result<Results>) -> Result<&Results> {
        if let Some(known) = self.expected.get() {
            return Ok(known);
        }
        let computed = compute()?;
        Ok(self.expected.get_or_init(|| computed))
    }
}

/// One map of a row-major `[B, N, H, 2, d]`, as `[B, N, H, d]`.
pub(crate) fn of_map(tensor: &Tensor, map: usize) -> Tensor {
    let (shape, strides) = (tensor.shape(), tensor.strides());
    let without_pair = |sizes: &[usize]| [sizes[0], sizes[1], sizes[2], sizes[4]];
    Tensor::strided(
        tensor.handle().clone(),
        tensor.dtype(),
        map * strides[3],
        &without_pair(shape),
        &without_pair(strides),
    )
}

/// A storage type as CubeCL names it.
pub(crate) fn elem(dtype: DType) -> ElemType {
    match dtype {
        DType::F32 => f32::elem_type_native(),
        DType::F16 => f16::elem_type_native(),
        DType::BF16 => bf16::elem_type_native(),
    }
}
