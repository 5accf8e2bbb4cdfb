//! Backward.

mod products;
mod rows;

use cubecl::prelude::Client;

use super::axes::{Axes, AxisStrides};
use super::check::{check_device, check_inputs_device, check_shape, check_type};
use super::gradients::Gradients;
use super::inputs::{Checked, Inputs};
use super::launch::check_reach;
use super::options::Options;
use super::saved::Saved;
use crate::error::Result;
use crate::problem::Problem;
use crate::tensor::Tensor;
use crate::tuning::Limits;

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
/// let options = Options { save_for_backward: true, ..Options::default() };
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
    let gradients = Gradients::empty(client, inputs, &inputs.problem(options)?)?;
    backward_into(client, inputs, saved, grad_output, options, &gradients)?;
    Ok(gradients)
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
/// let options = Options { save_for_backward: true, ..Options::default() };
/// let saved = forward(&client, &inputs, &options)?.saved.expect("asked for");
/// // The gradients are wanted as [batch, heads, seq, dim].
/// let empty = || Tensor::empty(&client, DType::F32, &[1, 2, 4, 8]).permute(&[0, 2, 1, 3]);
/// let gradients = Gradients { query: empty()?, key: empty()?, value: empty()?, lambda: None, gamma: None };
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
    let checked = inputs.check(options)?;
    let problem = &checked.problem;
    problem.dtype.check(client)?;
    check_inputs_device(client, inputs)?;
    saved.check(client, problem, false)?;
    gradients.check(client, inputs, problem)?;
    let grad_axes = grad_output_axes(client, problem, grad_output)?;
    let limits = Limits::of(client);
    let tensors = [
        &inputs.query,
        &inputs.key,
        &inputs.value,
        &saved.outputs,
        grad_output,
    ];
    check_reach(&limits, &tensors)?;
    let call = Call {
        client,
        limits,
        inputs,
        options,
        checked: &checked,
        gradients,
    };
    let incoming = OutputGradient {
        tensor: grad_output.clone(),
        axes: grad_axes.strides,
    };
    let rows = call.rows(saved, incoming)?;
    call.query(&rows)?;
    call.key_value(&rows)
}

/// One call, checked.
struct Call<'a> {
    client: &'a Client,
    limits: Limits,
    inputs: &'a Inputs,
    options: &'a Options,
    checked: &'a Checked,
    gradients: &'a Gradients,
}

/// The gradient of the output, in the caller's tensor or, through the norm, in one of ours.
struct OutputGradient {
    tensor: Tensor,
    axes: AxisStrides,
}

fn grad_output_axes(client: &Client, problem: &Problem, grad_output: &Tensor) -> Result<Axes> {
    let name = "gradient of output";
    check_shape(name, grad_output, &problem.output_shape())?;
    check_type(name, grad_output, problem.dtype)?;
    check_device(client, &[(name, grad_output)])?;
    Axes::of(name, grad_output, &[4], "[B, Nq, H, dv]")
}
