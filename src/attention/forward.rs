//! Forward.

use cubecl::prelude::Client;

use super::check::check_inputs_device;
#[cfg(feature = "hopper")]
use super::hopper;
use super::inputs::{Checked, Inputs};
use super::launch::{check_launch, choose_tile};
use super::options::Options;
use super::outputs::{OutputLayout, Outputs};
use super::portable;
use super::saved::Saved;
#[cfg(not(feature = "hopper"))]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "hopper")]
use crate::kernels::hopper::forward::shape::HopperShape;
use crate::kernels::portable::tile::Tile;
use crate::tensor::Tensor;
use crate::tuning::{Limits, Pass, Schedule};

/// What [`forward`] returns.
#[derive(Debug, Clone)]
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
/// let options = Options { mask: Mask::Causal, ..Options::default() };
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
    let problem = inputs.problem(options)?;
    problem.dtype.check(client)?;
    let output = Tensor::empty(client, problem.dtype, &problem.output_shape());
    let saved = options
        .save_for_backward
        .then(|| Saved::empty(client, &problem, &output));
    forward_into(client, inputs, options, &output, saved.as_ref())?;
    Ok(Forward { output, saved })
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
    let checked = inputs.check(options)?;
    let problem = &checked.problem;
    problem.dtype.check(client)?;
    check_inputs_device(client, inputs)?;
    let outputs = Outputs::new(client, problem, output, saved)?;
    match plan(client, inputs, options, &checked, &outputs.layout)? {
        Plan::Portable(tile) => portable::launch(client, inputs, &checked, &outputs, tile)?,
        #[cfg(feature = "hopper")]
        Plan::Hopper(shape) => hopper::launch(client, inputs, &checked, &outputs, shape)?,
    }
    check_launch(client, "forward", output)
}

/// The kernel that [`forward`] takes for a problem on a device.
///
/// ```
/// use diff_flash_attn::tuning::Schedule;
/// use diff_flash_attn::{DType, Inputs, Options, Tensor, device, forward_schedule};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?);
/// // Tensor cores have no f32.
/// assert_eq!(forward_schedule(&client, &inputs, &Options::default())?, Schedule::Portable);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`forward`] that come before the launch, among them [`Error::Settings`](crate::Error::Settings) with the reason if
/// [`Tuning::schedule`](crate::Tuning) asks for a kernel that cannot take the problem.
pub fn forward_schedule(client: &Client, inputs: &Inputs, options: &Options) -> Result<Schedule> {
    let checked = inputs.check(options)?;
    let problem = &checked.problem;
    problem.dtype.check(client)?;
    check_inputs_device(client, inputs)?;
    let layout = OutputLayout::row_major(problem, options.save_for_backward);
    Ok(match plan(client, inputs, options, &checked, &layout)? {
        Plan::Portable(_) => Schedule::Portable,
        #[cfg(feature = "hopper")]
        Plan::Hopper(_) => Schedule::Hopper,
    })
}

/// Which kernel, and how.
enum Plan {
    Portable(Tile),
    #[cfg(feature = "hopper")]
    Hopper(HopperShape),
}

/// The kernel that the options ask for, or the fastest that can.
fn plan(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
    checked: &Checked,
    layout: &OutputLayout,
) -> Result<Plan> {
    let asked = options.tuning.asked();
    if asked != Some(Schedule::Portable) {
        let planned = plan_hopper(client, inputs, options, checked, layout);
        if planned.is_ok() || asked == Some(Schedule::Hopper) {
            return planned;
        }
    }
    let problem = &checked.problem;
    let limits = Limits::of(client);
    let chosen = options.tuning.forward;
    let tile = choose_tile(&limits, Pass::Forward, problem, chosen, |tile| {
        portable::shape_of(problem, inputs, layout, tile).shared_memory()
    })?;
    Ok(Plan::Portable(tile))
}

#[cfg(feature = "hopper")]
fn plan_hopper(
    client: &Client,
    inputs: &Inputs,
    options: &Options,
    checked: &Checked,
    layout: &OutputLayout,
) -> Result<Plan> {
    let chosen = options.tuning.hopper_forward;
    hopper::plan(client, inputs, checked, layout, chosen).map(Plan::Hopper)
}

#[cfg(not(feature = "hopper"))]
fn plan_hopper(
    _client: &Client,
    _inputs: &Inputs,
    _options: &Options,
    _checked: &Checked,
    _layout: &OutputLayout,
) -> Result<Plan> {
    Err(Error::Settings {
        settings: Schedule::Hopper.to_string(),
        problem: "the crate was built without feature `hopper`".into(),
    })
}
