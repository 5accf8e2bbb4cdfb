//! A device as a [`Runner`]: the library's public functions on tensors that lie as they do in the file.

use anyhow::{Context, Result};
use cubecl::prelude::Client;
use diff_flash_attn::{
    DType, Gradients, Inputs, Options, Plan, Saved, Tensor, backward_into, device, forward,
    plan_backward_into, plan_forward,
};

use crate::case::Case;
use crate::layout::Operand;
use crate::makers::Makers;
use crate::run::{Computed, ComputedGradients, Runner};

/// The library's kernels on a device.
///
/// Inputs are rounded to the storage type and uploaded in the file's order; the library reads them, and writes their
/// gradients, through permuted axes. Nothing is moved on the way.
pub struct Device {
    client: Client,
    dtype: DType,
}

impl Device {
    /// A device that stores query, key, value, output and their gradients as `dtype`.
    pub fn new(client: Client, dtype: DType) -> Self {
        Self { client, dtype }
    }

    /// What the device is called.
    pub fn describe(&self) -> String {
        device::describe(&self.client)
    }

    fn upload(&self, dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor> {
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        Ok(Tensor::from_f32(&self.client, dtype, shape, &values)?)
    }

    fn operand(&self, operand: &Operand) -> Result<Tensor> {
        let stored = self.upload(self.dtype, &operand.shape, &operand.values)?;
        Ok(stored.permute(&operand.axes)?)
    }

    fn inputs(&self, case: &Case) -> Result<Inputs> {
        let single = |shape: &[usize], values: &[f64]| self.upload(DType::F32, shape, values);
        let gamma = case.gamma.as_ref();
        let [query, key, value] = [&case.query, &case.key, &case.value].map(|it| self.operand(it));
        let lambda = single(case.lambda.shape(), &case.lambda.values()?)?;
        let gamma = gamma.map(|gamma| single(&[gamma.len()], gamma));
        let inputs = Inputs::differential(query?, key?, value?, lambda);
        Ok(inputs.with_gamma(gamma.transpose()?))
    }

    fn read(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        let values = tensor.to_f32(&self.client)?;
        Ok(values.into_iter().map(f64::from).collect())
    }

    /// Gradients in the file's order, and what was launched for them.
    fn backward(
        &self,
        case: &Case,
        (inputs, saved, options): (&Inputs, &Saved, &Options),
        grad_output: &[f64],
    ) -> Result<(ComputedGradients, Plan)> {
        let grad_output = self.upload(self.dtype, &case.output_shape(), grad_output)?;
        let empty = |operand: &Operand| Tensor::empty(&self.client, self.dtype, &operand.shape);
        let single = |shape: &[usize]| Tensor::empty(&self.client, DType::F32, shape);
        let [query, key, value] = [&case.query, &case.key, &case.value].map(empty);
        let lambda = single(case.lambda.shape());
        let gamma = case.gamma.as_ref().map(|gamma| single(&[gamma.len()]));
        let gradients = Gradients::new(
            query.permute(&case.query.axes)?,
            key.permute(&case.key.axes)?,
            value.permute(&case.value.axes)?,
        )
        .with_lambda(lambda.clone())
        .with_gamma(gamma.clone());
        let client = &self.client;
        let plan = plan_backward_into(client, inputs, saved, &grad_output, options, &gradients)?;
        backward_into(client, inputs, saved, &grad_output, options, &gradients)?;
        let computed = ComputedGradients {
            query: self.read(&query)?,
            key: self.read(&key)?,
            value: self.read(&value)?,
            lambda: self.read(&lambda)?,
            gamma: gamma.map(|gamma| self.read(&gamma)).transpose()?,
        };
        Ok((computed, plan))
    }
}

impl Runner for Device {
    fn run(&mut self, case: &Case) -> Result<Computed> {
        let inputs = self.inputs(case)?;
        let options = Options::default()
            .with_mask(case.problem.mask)
            .with_norm(case.problem.norm)
            .with_save_for_backward(case.grad_output.is_some());
        let makers = Makers::of(&plan_forward(&self.client, &inputs, &options)?);
        let result = forward(&self.client, &inputs, &options)?;
        let backward = |grad_output: &Vec<f64>| {
            let saved = result
                .saved
                .as_ref()
                .context("the forward pass saved nothing")?;
            self.backward(case, (&inputs, saved, &options), grad_output)
        };
        let gradients = case.grad_output.as_ref().map(backward).transpose()?;
        let (gradients, makers) = match gradients {
            Some((gradients, plan)) => (Some(gradients), makers.and(&plan)),
            None => (None, makers),
        };
        Ok(Computed {
            output: self.read(&result.output)?,
            gradients,
            makers,
        })
    }
}
