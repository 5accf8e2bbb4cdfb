//! Output from inputs: the call, its plan, its run.

use cubecl::prelude::Client;

use super::check::{check_device, check_writable};
use super::inputs::{Checked, Inputs};
use super::options::Options;
use super::saved::{Saved, saves_outputs};
use crate::device::Device;
use crate::error::Result;
use crate::kernels;
use crate::plan::{Bindings, ForwardCall, Operand, Plan, View};
use crate::problem::Problem;
use crate::tensor::Tensor;

/// What [`forward`] returns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forward {
    /// `[B, Nq, H, dv]`, in the storage type of the inputs.
    pub output: Tensor,
    /// What [`backward`](crate::backward) needs, if the options ask for it.
    pub saved: Option<Saved>,
}

/// Attention: `O = (P_1 − λ P_2) V` with `P_m = softmax(scale · Q_m K_mᵀ)`, or with one map `O = P V`; then the norm,
/// if the options have one. Memory is linear in the sequence lengths.
///
/// The call returns when the work is enqueued.
///
/// ```
/// use diff_flash_attn::{DType, Inputs, Mask, Options, Tensor, device, forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let (query, key) = (ones(&[1, 5, 2, 2, 8])?, ones(&[1, 7, 1, 2, 8])?);
/// let (value, lambda) = (ones(&[1, 7, 1, 16])?, Tensor::from_f32(&client, DType::F32, &[1], &[0.25])?);
/// let options = Options::default().with_mask(Mask::Causal);
/// let output = forward(&client, &Inputs::differential(query, key, value, lambda), &options)?.output;
/// assert_eq!(output.shape(), &[1, 5, 2, 16]);
/// assert!(output.to_f32(&client)?.iter().all(|x| (x - 0.75).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Before anything is launched: a tensor or option that does not fit the others, a storage type or size that the device
/// cannot do. [`Error::Launch`](crate::Error::Launch) if the device refuses the launch.
pub fn forward(client: &Client, inputs: &Inputs, options: &Options) -> Result<Forward> {
    let checked = inputs.check(options)?;
    let (output, saved) = empty(client, &checked.problem, options)?;
    let plan = plan(client, inputs, &checked, options, &output, saved.as_ref())?;
    plan.run(client, &Bindings::forward(inputs, &output, saved.as_ref()))?;
    Ok(Forward { output, saved })
}

/// Row-major tensors for what [`forward`] writes.
#[cfg(feature = "burn")]
pub(crate) fn empty_outputs(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
) -> Result<(Tensor, Option<Saved>)> {
    empty(client, &inputs.problem(options)?, options)
}

/// The same for a problem. CubeCL allocates them when they are first used.
fn empty(client: &Client, problem: &Problem, options: &Options) -> Result<(Tensor, Option<Saved>)> {
    problem.dtype.check(client)?;
    let output = Tensor::empty(client, problem.dtype, &problem.output_shape());
    let saved = options
        .save_for_backward
        .then(|| Saved::empty(client, problem, &output));
    Ok((output, saved))
}

/// As [`forward`], writing into given tensors: `output` is `[B, Nq, H, dv]`, any strides whose last axis is contiguous;
/// `saved`, if given, as [`Saved`] describes (`outputs` with any strides whose last axis is contiguous, `lse` row-major),
/// whatever `options.save_for_backward` says. For standard attention without a norm `saved.outputs` is not written:
/// pass the output there.
///
/// ```
/// use diff_flash_attn::{DType, Inputs, Options, Tensor, device, forward_into};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?);
/// // The result is wanted as [batch, heads, seq, dim].
/// let bhnd = Tensor::empty(&client, DType::F32, &[1, 2, 5, 8]);
/// forward_into(&client, &inputs, &Options::default(), &bhnd.permute(&[0, 2, 1, 3])?, None)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`forward`], and an output of another shape, type or device, or one whose elements overlap.
pub fn forward_into(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
    output: &Tensor,
    saved: Option<&Saved>,
) -> Result<()> {
    let plan = plan_forward_into(client, inputs, options, output, saved)?;
    plan.run(client, &Bindings::forward(inputs, output, saved))
}

/// What [`forward`] will launch: row-major outputs, saved tensors as `options.save_for_backward` says.
///
/// ```
/// use diff_flash_attn::tuning::Family;
/// use diff_flash_attn::{DType, Inputs, Options, Tensor, device, plan_forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?);
/// let plan = plan_forward(&client, &inputs, &Options::default())?;
/// // Tensor cores have no f32.
/// assert_eq!(plan.describe()[0].family, Some(Family::Portable));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`forward`] that come before the launch, among them [`Error::Settings`](crate::Error::Settings) with the
/// reason if [`Tuning`](crate::Tuning) asks for a family that cannot take the problem.
pub fn plan_forward(client: &Client, inputs: &Inputs, options: &Options) -> Result<Plan> {
    let checked = inputs.check(options)?;
    let (output, saved) = empty(client, &checked.problem, options)?;
    plan(client, inputs, &checked, options, &output, saved.as_ref())
}

/// What [`forward_into`] will launch.
///
/// # Errors
/// Those of [`forward_into`] that come before the launch.
pub fn plan_forward_into(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
    output: &Tensor,
    saved: Option<&Saved>,
) -> Result<Plan> {
    plan(
        client,
        inputs,
        &inputs.check(options)?,
        options,
        output,
        saved,
    )
}

/// Refuses what can be refused, and plans the rest.
fn plan(
    client: &Client,
    inputs: &Inputs,
    checked: &Checked,
    options: &Options,
    output: &Tensor,
    saved: Option<&Saved>,
) -> Result<Plan> {
    let problem = checked.problem;
    let device = Device::of(client);
    device.check_type(problem.dtype)?;
    inputs.check_device(client)?;
    check_writable(
        Operand::Output,
        output,
        problem.dtype,
        &problem.output_shape(),
    )?;
    check_device(Operand::Output, client, output)?;
    if let Some(saved) = saved {
        saved.check(client, &problem, true)?;
    }
    let written = saved.filter(|_| saves_outputs(&problem));
    let call = ForwardCall {
        problem,
        query: checked.query,
        key: checked.key,
        value: checked.value,
        lambda: checked.lambda,
        gamma: checked.gamma,
        output: View::rows(Operand::Output, output)?,
        saved: written.map(Saved::outputs_view).transpose()?,
        lse: saved.map(Saved::lse_view).transpose()?,
    };
    let (draft, refused) = kernels::forward(&call, &device, &options.tuning)?;
    let bindings = Bindings::forward(inputs, output, saved);
    let written = [Operand::Output, Operand::SavedOutputs, Operand::SavedLse];
    let expected = bindings.expected(&written);
    Ok(Plan::new("forward", device, draft, expected, refused))
}

impl<'a> Bindings<'a> {
    /// The tensors of a forward pass, for a plan of [`plan_forward`] or [`plan_forward_into`].
    pub fn forward(inputs: &'a Inputs, output: &'a Tensor, saved: Option<&'a Saved>) -> Self {
        inputs
            .bindings()
            .with(Operand::Output, output)
            .with_optional(Operand::SavedOutputs, saved.map(|saved| &saved.outputs))
            .with_optional(Operand::SavedLse, saved.map(|saved| &saved.lse))
    }
}
