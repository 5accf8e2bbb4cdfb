//! Gradients of the inputs: the call, its plan, its run.

use cubecl::prelude::Client;

use super::check::{check_device, check_rows, check_shape, check_type};
use super::gradients::{Gradients, single_view};
use super::inputs::{Checked, Inputs, value_view};
use super::options::Options;
use super::saved::Saved;
use crate::device::Device;
use crate::error::Result;
use crate::kernels;
use crate::plan::{BackwardCall, Bindings, Operand, Plan, View};
use crate::problem::Problem;
use crate::tensor::Tensor;

/// Gradients of the inputs from `grad_output`, the gradient of [`forward`](crate::forward)'s output,
/// `[B, Nq, H, dv]` in the storage type of the inputs.
///
/// `dP = dO Vᵀ` is computed once for both maps, and `dV = (P_1 − λ P_2)ᵀ dO` from the combined probabilities; there are
/// no atomics, so results repeat bit for bit. `inputs` and `options` are those of the forward pass.
///
/// ```
/// use diff_flash_attn::{DType, Inputs, Options, Tensor, backward, device, forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let (query, key) = (ones(&[1, 4, 1, 2, 8])?, ones(&[1, 4, 1, 2, 8])?);
/// let (value, lambda) = (ones(&[1, 4, 1, 16])?, Tensor::from_f32(&client, DType::F32, &[1], &[0.25])?);
/// let inputs = Inputs::differential(query, key, value, lambda);
/// let options = Options::default().with_save_for_backward(true);
/// let result = forward(&client, &inputs, &options)?;
/// let saved = result.saved.expect("asked for");
/// let gradients = backward(&client, &inputs, &saved, &ones(&[1, 4, 1, 16])?, &options)?;
/// // Every query gives each of four equal keys the probability 1/4, times 1 − λ.
/// assert!(gradients.value.to_f32(&client)?.iter().all(|x| (x - 0.75).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Before anything is launched: what [`forward`](crate::forward) refuses, and a gradient or saved tensor that does not
/// fit. [`Error::Launch`](crate::Error::Launch) if the device refuses a launch.
pub fn backward(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
) -> Result<Gradients> {
    let checked = inputs.check(options)?;
    let gradients = empty(client, inputs, &checked.problem)?;
    let call = Tensors {
        inputs,
        saved,
        grad_output,
        gradients: &gradients,
    };
    call.plan(client, &checked, options)?
        .run(client, &call.bindings())?;
    Ok(gradients)
}

/// Row-major tensors for what [`backward`] writes.
#[cfg(feature = "burn")]
pub(crate) fn empty_gradients(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
) -> Result<Gradients> {
    empty(client, inputs, &inputs.problem(options)?)
}

/// The same for a problem.
fn empty(client: &Client, inputs: &Inputs, problem: &Problem) -> Result<Gradients> {
    problem.dtype.check(client)?;
    Ok(Gradients::empty(client, inputs, problem))
}

/// As [`backward`], writing into given tensors: those of query, key and value with any strides whose last axis is
/// contiguous, those of λ and γ row-major.
///
/// ```
/// use diff_flash_attn::{DType, Gradients, Inputs, Options, Tensor, backward_into, device, forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 4, 2, 8])?, ones(&[1, 4, 2, 8])?, ones(&[1, 4, 2, 8])?);
/// let options = Options::default().with_save_for_backward(true);
/// let saved = forward(&client, &inputs, &options)?.saved.expect("asked for");
/// // The gradients are wanted as [batch, heads, seq, dim].
/// let empty = || Tensor::empty(&client, DType::F32, &[1, 2, 4, 8]).permute(&[0, 2, 1, 3]);
/// let gradients = Gradients::new(empty()?, empty()?, empty()?);
/// backward_into(&client, &inputs, &saved, &ones(&[1, 4, 2, 8])?, &options, &gradients)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`backward`], and a gradient tensor of another shape, type or device, one whose elements overlap, or one that is
/// missing or not wanted.
pub fn backward_into(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
    gradients: &Gradients,
) -> Result<()> {
    let call = Tensors {
        inputs,
        saved,
        grad_output,
        gradients,
    };
    let checked = inputs.check(options)?;
    call.plan(client, &checked, options)?
        .run(client, &call.bindings())
}

/// What [`backward`] will launch: row-major gradients.
///
/// ```
/// use diff_flash_attn::{Bindings, DType, Inputs, Options, Tensor, backward, device, forward, plan_backward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?);
/// let options = Options::default().with_save_for_backward(true);
/// let saved = forward(&client, &inputs, &options)?.saved.expect("asked for");
/// let grad_output = ones(&[1, 5, 2, 8])?;
/// let plan = plan_backward(&client, &inputs, &saved, &grad_output, &options)?;
/// println!("{} bytes of scratch\n{plan}", plan.workspace());
/// // It can be run any number of times on tensors that lie so.
/// let gradients = backward(&client, &inputs, &saved, &grad_output, &options)?;
/// plan.run(&client, &Bindings::backward(&inputs, &saved, &grad_output, &gradients))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`backward`] that come before the launches.
pub fn plan_backward(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
) -> Result<Plan> {
    let checked = inputs.check(options)?;
    let gradients = empty(client, inputs, &checked.problem)?;
    let call = Tensors {
        inputs,
        saved,
        grad_output,
        gradients: &gradients,
    };
    call.plan(client, &checked, options)
}

/// What [`backward_into`] will launch.
///
/// # Errors
/// Those of [`backward_into`] that come before the launches.
pub fn plan_backward_into(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
    gradients: &Gradients,
) -> Result<Plan> {
    let call = Tensors {
        inputs,
        saved,
        grad_output,
        gradients,
    };
    call.plan(client, &inputs.check(options)?, options)
}

/// The tensors of a call.
struct Tensors<'a> {
    inputs: &'a Inputs,
    saved: &'a Saved,
    grad_output: &'a Tensor,
    gradients: &'a Gradients,
}

impl<'a> Tensors<'a> {
    /// Refuses what can be refused, and plans the rest.
    fn plan(&self, client: &Client, checked: &Checked, options: &Options) -> Result<Plan> {
        let device = Device::of(client);
        self.check(client, &device, &checked.problem)?;
        let call = self.call(checked)?;
        let (draft, refused) = kernels::backward(&call, &device, &options.tuning)?;
        let expected = self.bindings().expected(&Gradients::WRITTEN);
        Ok(Plan::new("backward", device, draft, expected, refused))
    }

    fn check(&self, client: &Client, device: &Device, problem: &Problem) -> Result<()> {
        device.check_type(problem.dtype)?;
        self.inputs.check_device(client)?;
        self.saved.check(client, problem, false)?;
        self.gradients.check(client, self.inputs, problem)?;
        check_grad_output(client, problem, self.grad_output)
    }

    /// The tensors as kernels address them.
    fn call(&self, checked: &Checked) -> Result<BackwardCall> {
        let gradients = self.gradients;
        Ok(BackwardCall {
            problem: checked.problem,
            query: checked.query,
            key: checked.key,
            value: checked.value,
            lambda: checked.lambda,
            gamma: checked.gamma,
            saved: self.saved.outputs_view()?,
            lse: self.saved.lse_view()?,
            grad_output: View::rows(Operand::GradOutput, self.grad_output)?,
            grad_query: View::rows(Operand::GradQuery, &gradients.query)?,
            grad_key: View::rows(Operand::GradKey, &gradients.key)?,
            grad_value: value_view(Operand::GradValue, &gradients.value)?,
            grad_lambda: single_view(Operand::GradLambda, &gradients.lambda)?,
            lambda_sizes: checked.lambda_sizes,
            grad_gamma: single_view(Operand::GradGamma, &gradients.gamma)?,
        })
    }

    fn bindings(&self) -> Bindings<'a> {
        Bindings::backward(self.inputs, self.saved, self.grad_output, self.gradients)
    }
}

impl<'a> Bindings<'a> {
    /// The tensors of a backward pass, for a plan of [`plan_backward`] or [`plan_backward_into`].
    pub fn backward(
        inputs: &'a Inputs,
        saved: &'a Saved,
        grad_output: &'a Tensor,
        gradients: &'a Gradients,
    ) -> Self {
        let bindings = inputs
            .bindings()
            .with(Operand::SavedOutputs, &saved.outputs)
            .with(Operand::SavedLse, &saved.lse)
            .with(Operand::GradOutput, grad_output);
        gradients.bind(bindings)
    }
}

fn check_grad_output(client: &Client, problem: &Problem, grad_output: &Tensor) -> Result<()> {
    let operand = Operand::GradOutput;
    check_shape(operand, grad_output, &problem.output_shape())?;
    check_type(operand, grad_output, problem.dtype)?;
    check_device(operand, client, grad_output)?;
    check_rows(operand, grad_output)
}
