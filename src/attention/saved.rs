//! What a forward pass keeps for the backward pass.

use cubecl::prelude::Client;

use super::check::{check_device, check_last_axis, check_row_major, check_shape, check_type};
use crate::dtype::DType;
use crate::error::Result;
use crate::plan::{AxisStrides, Operand, View};
use crate::problem::Problem;
use crate::tensor::Tensor;

/// What the backward pass needs of the forward pass beside its inputs. Its size is linear in the sequence length.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Saved {
    /// Before the norm: `O` and, with two maps, `O_2 = P_2 V`. `[B, Nq, H, maps, dv]`, in the storage type of the
    /// inputs. For standard attention without a norm it is the output itself.
    pub outputs: Tensor,
    /// Natural logarithm of the sum of exponentials of every map's scores, `[B, H, maps, Nq]`, `f32`. `−∞` for a query
    /// that sees no key.
    pub lse: Tensor,
}

impl Saved {
    /// Given tensors for what is saved.
    pub fn new(outputs: Tensor, lse: Tensor) -> Self {
        Self { outputs, lse }
    }

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
        let (operand, outputs) = (Operand::SavedOutputs, &self.outputs);
        check_shape(operand, outputs, &problem.outputs_shape())?;
        check_type(operand, outputs, problem.dtype)?;
        check_last_axis(operand, outputs)?;
        if written {
            outputs.check_writable(operand.name())?;
        }
        check_device(operand, client, outputs)?;
        let (operand, lse) = (Operand::SavedLse, &self.lse);
        check_shape(operand, lse, &problem.lse_shape())?;
        check_type(operand, lse, DType::F32)?;
        check_row_major(operand, lse)?;
        check_device(operand, client, lse)
    }

    /// O and O_2 before the norm, as kernels address them.
    pub(super) fn outputs_view(&self) -> Result<View> {
        View::rows(Operand::SavedOutputs, &self.outputs)
    }

    /// The log-sum-exps, as kernels address them.
    pub(super) fn lse_view(&self) -> Result<View> {
        let strides = AxisStrides::of_lse(self.lse.layout());
        View::new(Operand::SavedLse, &self.lse, strides)
    }
}

/// Whether the output alone does not hold what backward needs.
pub(super) fn saves_outputs(problem: &Problem) -> bool {
    problem.maps == 2 || problem.norm.is_some()
}
