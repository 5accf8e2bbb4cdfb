//! What computes a case: anything that is a [`Runner`], and the `f64` reference as the first.

use anyhow::Result;
use diff_flash_attn::{DType, reference};
use half::{bf16, f16};

use crate::case::Case;
use crate::makers::Makers;

/// An implementation that is compared with golden cases.
pub trait Runner {
    /// Computes a case's output and, if it has the gradient of the output, the gradients of its inputs.
    ///
    /// # Errors
    /// Whatever keeps the implementation from it.
    fn run(&mut self, case: &Case) -> Result<Computed>;
}

/// What came out, in the file's own layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    /// `[B, Nq, H, dv]`.
    pub output: Vec<f64>,
    /// Present if the case has the gradient of the output.
    pub gradients: Option<ComputedGradients>,
    /// Who computed it.
    pub makers: Makers,
}

/// Gradients of the inputs, each in its input's layout in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct ComputedGradients {
    /// Of the query.
    pub query: Vec<f64>,
    /// Of the key.
    pub key: Vec<f64>,
    /// Of the value.
    pub value: Vec<f64>,
    /// Of λ itself, in [`Lambda::shape`](crate::Lambda::shape).
    pub lambda: Vec<f64>,
    /// Of γ, if the case has it.
    pub gamma: Option<Vec<f64>>,
}

/// The library's `f64` reference.
#[derive(Debug, Clone, Copy)]
pub struct Reference;

impl Runner for Reference {
    fn run(&mut self, case: &Case) -> Result<Computed> {
        let inputs = case.inputs()?;
        let output = reference::forward(&case.problem, &inputs)?.output;
        let backward = |grad_output: &Vec<f64>| -> Result<ComputedGradients> {
            let gradients = reference::backward(&case.problem, &inputs, grad_output)?;
            Ok(ComputedGradients {
                query: case.query.to_file(&gradients.query)?,
                key: case.key.to_file(&gradients.key)?,
                value: case.value.to_file(&gradients.value)?,
                lambda: reference::reduce_to(&gradients.lambda, case.rows(), case.lambda.shape())?,
                gamma: gradients.gamma,
            })
        };
        let gradients = case.grad_output.as_ref().map(backward).transpose()?;
        Ok(Computed {
            output,
            gradients,
            makers: Makers::One("reference"),
        })
    }
}

/// The `f64` reference on what a device reads and writes: inputs, outputs and gradients rounded to a storage type. Its
/// distance from a golden case is what storing costs however exactly the device computes.
#[derive(Debug, Clone, Copy)]
pub struct Rounded(pub DType);

impl Rounded {
    fn round(self, values: &mut [f64]) {
        for value in values {
            *value = match self.0 {
                DType::F32 => f64::from(*value as f32),
                DType::F16 => f16::from_f64(*value).to_f64(),
                DType::BF16 => bf16::from_f64(*value).to_f64(),
            };
        }
    }
}

impl Runner for Rounded {
    fn run(&mut self, case: &Case) -> Result<Computed> {
        let mut case = case.clone();
        let operands = [&mut case.query, &mut case.key, &mut case.value];
        operands
            .into_iter()
            .map(|operand| &mut operand.values)
            .chain(&mut case.grad_output)
            .for_each(|values| self.round(values));
        let mut computed = Reference.run(&case)?;
        self.round(&mut computed.output);
        if let Some(gradients) = &mut computed.gradients {
            let ComputedGradients {
                query, key, value, ..
            } = gradients;
            for values in [query, key, value] {
                self.round(values);
            }
        }
        Ok(computed)
    }
}
