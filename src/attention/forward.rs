//! Forward.

use cubecl::prelude::*;

use super::check::{check_device, check_last_axis, check_row_major, check_shape, check_type};
#[cfg(feature = "hopper")]
use super::hopper;
use super::inputs::{Axes, AxisStrides, Checked, Inputs, Options};
use super::launch::{
    band, buffer, check_launch, check_loops, check_reach, choose_tile, optional, strides,
    vector_width,
};
#[cfg(not(feature = "hopper"))]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "hopper")]
use crate::kernels::hopper::shape::HopperShape;
use crate::kernels::portable::forward::{
    ForwardNumbersLaunch, ForwardShape, ForwardStridesLaunch, attention_forward,
};
use crate::kernels::portable::tile::Tile;
use crate::problem::Problem;
use crate::tensor::{DType, Tensor, row_major};
use crate::tuning::{Limits, Pass, Schedule};

/// What [`forward`] returns.
#[derive(Debug, Clone)]
pub struct Forward {
    /// `[B, Nq, H, dv]`, in the storage type of the inputs.
    pub output: Tensor,
    /// What [`backward`](crate::backward) needs, if the options ask for it.
    pub saved: Option<Saved>,
}

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
    let output = Tensor::empty(client, problem.dtype, &output_shape(&problem));
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
    let output_axes = output_axes(client, problem, output)?;
    if let Some(saved) = saved {
        saved.check(client, problem, true)?;
    }
    let outputs = Outputs::new(problem, output, &output_axes, saved)?;
    match plan(client, inputs, options, &checked, &outputs.layout)? {
        Plan::Portable(tile) => launch(client, inputs, &checked, &outputs, tile)?,
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

pub(super) fn check_inputs_device(client: &Client, inputs: &Inputs) -> Result<()> {
    let Inputs {
        query,
        key,
        value,
        lambda,
        gamma,
    } = inputs;
    check_device(client, &[("query", query), ("key", key), ("value", value)])?;
    let optional = [("lambda", lambda), ("gamma", gamma)];
    let given: Vec<_> = optional
        .iter()
        .filter_map(|(n, t)| Some((*n, t.as_ref()?)))
        .collect();
    check_device(client, &given)
}

fn output_shape(problem: &Problem) -> [usize; 4] {
    let Problem {
        batch,
        query_len,
        heads,
        value_dim,
        ..
    } = *problem;
    [batch, query_len, heads, value_dim]
}

fn output_axes(client: &Client, problem: &Problem, output: &Tensor) -> Result<Axes> {
    let shape = output_shape(problem);
    writable(client, "output", output, problem.dtype, &shape)?;
    Axes::of("output", output, &[4], "[B, Nq, H, dv]")
}

/// Checks a tensor that is written.
pub(super) fn writable(
    client: &Client,
    name: &'static str,
    tensor: &Tensor,
    dtype: DType,
    shape: &[usize],
) -> Result<()> {
    check_shape(name, tensor, shape)?;
    check_type(name, tensor, dtype)?;
    check_last_axis(name, tensor)?;
    tensor.check_writable(name)?;
    check_device(client, &[(name, tensor)])
}

impl Saved {
    /// Tensors for what a forward pass saves.
    fn empty(client: &Client, problem: &Problem, output: &Tensor) -> Self {
        let Problem {
            batch,
            query_len,
            heads,
            maps,
            value_dim,
            ..
        } = *problem;
        let lse = Tensor::empty(client, DType::F32, &[batch, heads, maps, query_len]);
        if !saves_outputs(problem) {
            let strides = output.strides();
            let strides = [strides[0], strides[1], strides[2], 0, 1];
            let shape = [batch, query_len, heads, 1, value_dim];
            let handle = output.handle().clone();
            let outputs = Tensor::strided(handle, problem.dtype, output.offset(), &shape, &strides);
            return Self { outputs, lse };
        }
        let shape = [batch, query_len, heads, maps, value_dim];
        Self {
            outputs: Tensor::empty(client, problem.dtype, &shape),
            lse,
        }
    }

    pub(super) fn check(&self, client: &Client, problem: &Problem, written: bool) -> Result<()> {
        let Problem {
            batch,
            query_len,
            heads,
            maps,
            value_dim,
            dtype,
            ..
        } = *problem;
        let outputs = [batch, query_len, heads, maps, value_dim];
        let lse = [batch, heads, maps, query_len];
        check_shape("saved outputs", &self.outputs, &outputs)?;
        check_type("saved outputs", &self.outputs, dtype)?;
        check_last_axis("saved outputs", &self.outputs)?;
        check_shape("saved lse", &self.lse, &lse)?;
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
fn saves_outputs(problem: &Problem) -> bool {
    problem.maps == 2 || problem.norm.is_some()
}

/// What the kernels write, and where it lies.
pub(super) struct OutputLayout {
    pub output: AxisStrides,
    /// O and O_2, where the output alone does not hold them.
    pub saved: AxisStrides,
    pub lse: AxisStrides,
    pub save_outputs: bool,
    pub save_lse: bool,
    /// Whether the buffers begin at multiples of 16 bytes.
    #[cfg_attr(
        not(feature = "hopper"),
        expect(dead_code, reason = "portable kernels do not ask")
    )]
    pub aligned: bool,
}

impl OutputLayout {
    /// Of the tensors that [`forward`] makes.
    fn row_major(problem: &Problem, save: bool) -> Self {
        let [batch, query_len, heads, value_dim] = output_shape(problem);
        let strides = |shape: [usize; 4], pair| {
            let [batch, seq, head, _] = row_major(&shape)[..] else {
                unreachable!("four axes")
            };
            AxisStrides {
                offset: 0,
                batch,
                seq,
                head,
                pair,
            }
        };
        let save_outputs = save && saves_outputs(problem);
        let wide = [batch, query_len, heads, problem.maps * value_dim];
        Self {
            output: strides([batch, query_len, heads, value_dim], 0),
            saved: if save_outputs {
                strides(wide, value_dim)
            } else {
                AxisStrides::default()
            },
            lse: lse_strides(problem),
            save_outputs,
            save_lse: save,
            aligned: true,
        }
    }
}

/// What the kernels write to.
pub(super) struct Outputs<'a> {
    pub output: &'a Tensor,
    pub saved: Option<&'a Tensor>,
    pub lse: Option<&'a Tensor>,
    pub layout: OutputLayout,
}

impl<'a> Outputs<'a> {
    fn new(
        problem: &Problem,
        output: &'a Tensor,
        output_axes: &Axes,
        saved: Option<&'a Saved>,
    ) -> Result<Self> {
        let saved_axes = saved.map(Saved::axes).transpose()?;
        let lse = saved.map(|saved| &saved.lse);
        let saved = saved.filter(|_| saves_outputs(problem));
        let saved = saved.map(|saved| &saved.outputs);
        let start = |tensor: &Tensor| tensor.handle().offset_start.unwrap_or(0);
        let layout = OutputLayout {
            output: output_axes.strides,
            saved: saved_axes.map_or(AxisStrides::default(), |axes| axes.strides),
            lse: lse_strides(problem),
            save_outputs: saved.is_some(),
            save_lse: lse.is_some(),
            aligned: [Some(output), saved]
                .into_iter()
                .flatten()
                .all(|tensor| start(tensor).is_multiple_of(16)),
        };
        Ok(Self {
            output,
            saved,
            lse,
            layout,
        })
    }
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
        shape_of(problem, inputs, layout, tile).shared_memory()
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

fn shape_of(problem: &Problem, inputs: &Inputs, layout: &OutputLayout, tile: Tile) -> ForwardShape {
    ForwardShape {
        tile,
        head_dim4: problem.head_dim / 4,
        value_dim4: problem.value_dim / 4,
        maps: problem.maps,
        key_maps: problem.key_maps(),
        sides: problem.band().0,
        norm: problem.norm.is_some(),
        gamma: inputs.gamma.is_some(),
        save_outputs: layout.save_outputs,
        save_lse: layout.save_lse,
    }
}

/// Enqueues the portable kernel.
fn launch(
    client: &Client,
    inputs: &Inputs,
    checked: &Checked,
    outputs: &Outputs<'_>,
    tile: Tile,
) -> Result<()> {
    let Checked {
        problem,
        query,
        key,
        value,
        lambda,
    } = checked;
    let layout = &outputs.layout;
    let limits = Limits::of(client);
    let shape = shape_of(problem, inputs, layout, tile);
    check_reach(
        &limits,
        &[&inputs.query, &inputs.key, &inputs.value, outputs.output],
    )?;
    let stored = [
        &query.strides,
        &key.strides,
        &value.strides,
        &layout.output,
        &layout.saved,
    ];
    check_loops(&limits, problem, tile, problem.key_len, shape.tile_loops())?;
    let tiles = problem.query_len.div_ceil(tile.tile_rows());
    let grid = limits.grid([tiles, problem.heads, problem.batch])?;
    // SAFETY: the kernel guards every row and column by the sizes that `check` compared with the buffers.
    unsafe {
        attention_forward::launch_unchecked(
            client,
            grid,
            CubeDim::new_1d(tile.units() as u32),
            vector_width(&stored),
            buffer(&inputs.query),
            buffer(&inputs.key),
            buffer(&inputs.value),
            optional(client, inputs.lambda.as_ref()),
            optional(client, inputs.gamma.as_ref()),
            buffer(outputs.output),
            optional(client, outputs.saved),
            optional(client, outputs.lse),
            ForwardStridesLaunch::new(
                strides(&query.strides),
                strides(&key.strides),
                strides(&value.strides),
                strides(lambda),
                strides(&layout.output),
                strides(&layout.saved),
                strides(&layout.lse),
            ),
            band(problem),
            numbers(problem),
            shape,
            problem.dtype.elem(),
        );
    }
    Ok(())
}

/// Numbers of a problem that do not change the code of its kernel.
pub(super) fn numbers(problem: &Problem) -> ForwardNumbersLaunch {
    let norm = problem.norm;
    ForwardNumbersLaunch::new(
        problem.group() as u32,
        problem.scale,
        norm.map_or(0.0, |norm| norm.eps),
        norm.map_or(1.0, |norm| norm.factor()),
        f32::NEG_INFINITY,
    )
}

/// Row-major `[B, H, maps, Nq]`.
fn lse_strides(problem: &Problem) -> AxisStrides {
    let shape = [
        problem.batch,
        problem.heads,
        problem.maps,
        problem.query_len,
    ];
    let [batch, head, pair, seq] = row_major(&shape)[..] else {
        unreachable!("four axes")
    };
    AxisStrides {
        offset: 0,
        batch,
        seq,
        head,
        pair,
    }
}
