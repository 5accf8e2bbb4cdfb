//! Gradients of the inputs.

use cubecl::prelude::Client;

use super::check::{check_device, check_row_major, check_shape, check_type, writable};
use super::inputs::Inputs;
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::tensor::{DType, Tensor};

/// Gradients of the inputs, each with the shape of its input.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `[B, Nq, H, 2, d]`, or `[B, Nq, H, d]` for standard attention.
    pub query: Tensor,
    /// The shape of the key. Where both maps share it, the gradients of both are summed: the pair axis has size 1, or is
    /// left out as in the key.
    pub key: Tensor,
    /// The shape of the value.
    pub value: Tensor,
    /// The shape of λ, `f32`, summed over what was broadcast. `None` for standard attention.
    pub lambda: Option<Tensor>,
    /// `[dv]`, `f32`. `None` if the norm has no weight.
    pub gamma: Option<Tensor>,
}

impl Gradients {
    /// Row-major tensors for the gradients of `inputs`.
    pub(super) fn empty(client: &Client, inputs: &Inputs, problem: &Problem) -> Result<Self> {
        let dtype = problem.dtype;
        dtype.check(client)?;
        let single = |tensor: &Option<Tensor>| {
            tensor
                .as_ref()
                .map(|tensor| Tensor::empty(client, DType::F32, tensor.shape()))
        };
        Ok(Self {
            query: Tensor::empty(client, dtype, inputs.query.shape()),
            key: Tensor::empty(client, dtype, &key_shape(inputs, problem)),
            value: Tensor::empty(client, dtype, inputs.value.shape()),
            lambda: single(&inputs.lambda),
            gamma: single(&inputs.gamma),
        })
    }

    pub(super) fn check(&self, client: &Client, inputs: &Inputs, problem: &Problem) -> Result<()> {
        let dtype = problem.dtype;
        writable(
            client,
            "gradient of query",
            &self.query,
            dtype,
            inputs.query.shape(),
        )?;
        writable(
            client,
            "gradient of key",
            &self.key,
            dtype,
            &key_shape(inputs, problem),
        )?;
        writable(
            client,
            "gradient of value",
            &self.value,
            dtype,
            inputs.value.shape(),
        )?;
        check_single(client, "gradient of lambda", &self.lambda, &inputs.lambda)?;
        check_single(client, "gradient of gamma", &self.gamma, &inputs.gamma)
    }
}

/// The key's shape, with one map where both share it.
fn key_shape(inputs: &Inputs, problem: &Problem) -> Vec<usize> {
    let mut shape = inputs.key.shape().to_vec();
    if shape.len() == 5 {
        shape[3] = problem.key_maps();
    }
    shape
}

fn check_single(
    client: &Client,
    tensor: &'static str,
    gradient: &Option<Tensor>,
    input: &Option<Tensor>,
) -> Result<()> {
    match (gradient, input) {
        (Some(gradient), Some(input)) => {
            check_shape(tensor, gradient, input.shape())?;
            check_type(tensor, gradient, DType::F32)?;
            check_row_major(tensor, gradient)?;
            check_device(client, &[(tensor, gradient)])
        }
        (None, Some(_)) => Err(Error::Presence {
            tensor,
            problem: "missing, but its input is given",
        }),
        (Some(_), None) => Err(Error::Presence {
            tensor,
            problem: "given, but its input is not",
        }),
        (None, None) => Ok(()),
    }
}
