//! What a forward pass keeps for the backward pass.

use cubecl::prelude::Client;

use super::axes::Axes;
use super::check::{check_device, check_last_axis, check_row_major, check_shape, check_type};
use crate::error::Result;
use crate::problem::Problem;
use crate::tensor::{DType, Tensor};

/// What the backward pass needs of the forward pass beside its inputs. Its size is linear in the sequence length.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Before the norm: `O` and, with two maps, `O_2 = P_2 V`. `[B, Nq, H, maps, dv]`, in the storage type of the
    /// inputs. For standard attention without a norm it is the output itself.
    pub outputs: Tensor,
    /// Natural logarithm of the sum of exponentials of every map's scores, `[B, H, maps, Nq]`, `f32`. `−∞` for a query
    /// that sees no key.
    pub lse: Tensor,
}

impl Saved {
    /// Tensors for what a forward pass saves.
    pub(super) fn empty(client: &Client, problem: &Problem, output: &Tensor) -> Self {
        let lse = Tensor::empty(client, DType::F32, &problem.lse_shape());
        let mut shape = problem.outputs_shape();
        if !saves_outputs(problem) {
            let strides = output.strides();
            let strides = [strides[0], strides[1], strides[2], 0, 1];
            shape[3] = 1;
            let handle = output.handle().clone();
            let outputs = Tensor::strided(handle, problem.dtype, output.offset(), &shape, &strides);
            return Self { outputs, lse };
        }
        Self {
            outputs: Tensor::empty(client, problem.dtype, &shape),
            lse,
        }
    }

    pub(super) fn check(&self, client: &Client, problem: &Problem, written: bool) -> Result<()> {
        check_shape("saved outputs", &self.outputs, &problem.outputs_shape())?;
        check_type("saved outputs", &self.outputs, problem.dtype)?;
        check_last_axis("saved outputs", &self.outputs)?;
        check_shape("saved lse", &self.lse, &problem.lse_shape())?;
        check_type("saved lse", &self.lse, DType::F32)?;
        check_row_major("saved lse", &self.lse)?;
        if written {
            self.outputs.check_writable("saved outputs")?;
        }
        check_device(
            client,
            &[("saved outputs", &self.outputs), ("saved lse", &self.lse)],
        )
    }

    pub(super) fn axes(&self) -> Result<Axes> {
        Axes::of("saved outputs", &self.outputs, &[5], "[B, Nq, H, maps, dv]")
    }
}

/// Whether the output alone does not hold what backward needs.
pub(super) fn saves_outputs(problem: &Problem) -> bool {
    problem.maps == 2 || problem.norm.is_some()
}
