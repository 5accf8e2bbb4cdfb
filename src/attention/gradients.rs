//! Gradients of the inputs.

use cubecl::prelude::Client;

use super::check::{check_device, check_row_major, check_shape, check_type, check_writable};
use super::inputs::Inputs;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::{Bindings, Operand, View};
use crate::problem::Problem;
use crate::tensor::Tensor;

/// Gradients of the inputs, each with the shape of its input.
#[derive(Debug, Clone)]
#[non_exhaustive]
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
    /// Tensors for the gradients of standard attention, or with [`with_lambda`](Self::with_lambda) of differential.
    pub fn new(query: Tensor, key: Tensor, value: Tensor) -> Self {
        Self {
            query,
            key,
            value,
            lambda: None,
            gamma: None,
        }
    }

    /// Sets the tensor for λ's gradient.
    pub fn with_lambda(mut self, lambda: impl Into<Option<Tensor>>) -> Self {
        self.lambda = lambda.into();
        self
    }

    /// Sets the tensor for the gradient of the norm's weight.
    pub fn with_gamma(mut self, gamma: impl Into<Option<Tensor>>) -> Self {
        self.gamma = gamma.into();
        self
    }

    /// Row-major tensors for the gradients of `inputs`.
    pub(super) fn empty(client: &Client, inputs: &Inputs, problem: &Problem) -> Self {
        let dtype = problem.dtype;
        let empty = |dtype, shape: &[usize]| Tensor::empty(client, dtype, shape);
        let single = |input: &Option<Tensor>| {
            let input = input.as_ref()?;
            Some(empty(DType::F32, input.shape()))
        };
        Self {
            query: empty(dtype, inputs.query.shape()),
            key: empty(dtype, &key_shape(inputs, problem)),
            value: empty(dtype, inputs.value.shape()),
            lambda: single(&inputs.lambda),
            gamma: single(&inputs.gamma),
        }
    }

    pub(super) fn check(&self, client: &Client, inputs: &Inputs, problem: &Problem) -> Result<()> {
        let key = key_shape(inputs, problem);
        let written = [
            (Operand::GradQuery, &self.query, inputs.query.shape()),
            (Operand::GradKey, &self.key, &key),
            (Operand::GradValue, &self.value, inputs.value.shape()),
        ];
        for (operand, tensor, shape) in written {
            check_writable(operand, tensor, problem.dtype, shape)?;
            check_device(operand, client, tensor)?;
        }
        check_single(client, Operand::GradLambda, &self.lambda, &inputs.lambda)?;
        check_single(client, Operand::GradGamma, &self.gamma, &inputs.gamma)
    }

    /// The tensors as operands of a plan, among others.
    pub(super) fn bind<'a>(&'a self, bindings: Bindings<'a>) -> Bindings<'a> {
        bindings
            .with(Operand::GradQuery, &self.query)
            .with(Operand::GradKey, &self.key)
            .with(Operand::GradValue, &self.value)
            .with_optional(Operand::GradLambda, self.lambda.as_ref())
            .with_optional(Operand::GradGamma, self.gamma.as_ref())
    }

    /// What a plan writes of them.
    pub(super) const WRITTEN: [Operand; 5] = [
        Operand::GradQuery,
        Operand::GradKey,
        Operand::GradValue,
        Operand::GradLambda,
        Operand::GradGamma,
    ];
}

/// The key's shape, with one map where both share it.
fn key_shape(inputs: &Inputs, problem: &Problem) -> Vec<usize> {
    let mut shape = inputs.key.shape().to_vec();
    if shape.len() == 5 {
        shape[3] = problem.key_maps();
    }
    shape
}

/// Checks the gradient of an input that is `f32` and may be missing.
fn check_single(
    client: &Client,
    operand: Operand,
    gradient: &Option<Tensor>,
    input: &Option<Tensor>,
) -> Result<()> {
    let problem = match (gradient, input) {
        (Some(gradient), Some(input)) => {
            check_shape(operand, gradient, input.shape())?;
            check_type(operand, gradient, DType::F32)?;
            check_row_major(operand, gradient)?;
            return check_device(operand, client, gradient);
        }
        (None, None) => return Ok(()),
        (None, Some(_)) => "missing, but its input is given",
        (Some(_), None) => "given, but its input is not",
    };
    let tensor = operand.name();
    Err(Error::Presence { tensor, problem })
}

/// A gradient that may be missing, as kernels address it.
pub(super) fn single_view(operand: Operand, gradient: &Option<Tensor>) -> Result<Option<View>> {
    let view = |tensor| View::flat(operand, tensor);
    gradient.as_ref().map(view).transpose()
}
