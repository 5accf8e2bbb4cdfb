//! Forward on compute capability 9.0: which problems its kernel takes, and the launch.

use cubecl::prelude::*;

use super::axes::{Axes, AxisStrides};
use super::inputs::{Checked, Inputs};
use super::launch::{band, check_reach, handle, optional, strides};
use super::outputs::{OutputLayout, Outputs};
use super::portable::numbers;
use crate::error::{Error, Result};
use crate::kernels::hopper::forward::epilogue::HopperStridesLaunch;
use crate::kernels::hopper::forward::kernel::attention_forward_hopper;
use crate::kernels::hopper::forward::shape::{HopperShape, PANEL};
use crate::kernels::hopper::settings::hopper_settings;
use crate::kernels::warp::ptx::Half;
use crate::problem::Problem;
use crate::tensor::{DType, Tensor};
use crate::tuning::{HopperSettings, Limits};

/// Scales with which masked scores, and those of no key at all, are far below and yet finite.
const SCALES: core::ops::RangeInclusive<f32> = 1e-20..=1e6;

/// The kernel for a problem, or why it is not for it.
pub(super) fn plan(
    client: &Client,
    inputs: &Inputs,
    checked: &Checked,
    layout: &OutputLayout,
    chosen: Option<HopperSettings>,
) -> Result<HopperShape> {
    let problem = &checked.problem;
    check_client(client)?;
    let half = half(problem.dtype)?;
    let Some(settings) = chosen.or_else(|| hopper_settings(problem)) else {
        let (d, dv) = (problem.head_dim, problem.value_dim);
        return refuse(format!("no settings for head dimensions {d} and {dv}"));
    };
    if !problem.head_dim.is_multiple_of(16) || !problem.value_dim.is_multiple_of(16) {
        return refuse("head dimensions must be multiples of 16".into());
    }
    if !SCALES.contains(&problem.scale) {
        return refuse(format!("scale {} is outside {SCALES:?}", problem.scale));
    }
    let (value_parts, value_panel) = value_pieces(checked)?;
    let key_maps = problem.key_maps();
    let tensors = [
        ("query", &inputs.query, &checked.query, problem.maps),
        ("key", &inputs.key, &checked.key, key_maps),
        ("value", &inputs.value, &checked.value, value_parts),
    ];
    for (name, tensor, axes, pairs) in tensors {
        check_tensor_map(name, tensor, axes, pairs)?;
    }
    for axes in [&layout.output, &layout.saved] {
        if !axes.divisible(2) {
            return refuse("outputs are written two columns at a time".into());
        }
    }
    let shape = HopperShape {
        settings,
        head_dim: problem.head_dim,
        value_dim: problem.value_dim,
        maps: problem.maps,
        key_maps,
        value_parts,
        value_panel,
        half,
        sides: problem.band().0,
        norm: problem.norm.is_some(),
        gamma: inputs.gamma.is_some(),
        save_outputs: layout.save_outputs,
        save_lse: layout.save_lse,
        wide: wide(problem, layout),
    };
    settings.check(problem, shape.shared_memory(), &Limits::of(client))?;
    Ok(shape)
}

/// Whether eight columns of every output lie at a multiple of 16 bytes, and each warpgroup has four times as many.
fn wide(problem: &Problem, layout: &OutputLayout) -> bool {
    layout.aligned
        && layout.output.divisible(8)
        && layout.saved.divisible(8)
        && problem.value_dim.is_multiple_of(32 * problem.maps)
}

fn refuse<T>(problem: String) -> Result<T> {
    let settings = "hopper".into();
    Err(Error::Settings { settings, problem })
}

/// The kernel's instructions exist on this one compute capability, not on later ones.
fn check_client(client: &Client) -> Result<()> {
    let identity = &client.properties().identity;
    if client.name().starts_with("cuda") && identity.fingerprint == "ptx_sm90" {
        return Ok(());
    }
    refuse(format!(
        "needs CUDA on compute capability 9.0, this is {} on {}",
        client.name(),
        identity.name
    ))
}

fn half(dtype: DType) -> Result<Half> {
    match dtype {
        DType::F16 => Ok(Half::F16),
        DType::BF16 => Ok(Half::Bf16),
        DType::F32 => refuse("tensor cores have no f32".into()),
    }
}

/// Pieces in which values are loaded, the halves where they lie apart, and the columns of their panels.
fn value_pieces(checked: &Checked) -> Result<(usize, usize)> {
    let half = checked.problem.value_dim / 2;
    if checked.value.strides.pair == half {
        return Ok((1, PANEL));
    }
    let panels = [PANEL, PANEL / 2];
    match panels.into_iter().find(|panel| half.is_multiple_of(*panel)) {
        Some(panel) => Ok((2, panel)),
        None => refuse(format!(
            "halves of a value that lie apart have {half} columns, expected a multiple of {}",
            PANEL / 2
        )),
    }
}

/// Extents and strides of a tensor map, batch first. The strides of axes of one element are made up.
fn extents(axes: &Axes, pairs: usize) -> ([usize; 4], [usize; 4]) {
    let AxisStrides {
        batch,
        seq,
        head,
        pair,
        ..
    } = axes.strides;
    let sizes = [axes.batch, axes.len, axes.heads, pairs];
    let mut strides = [batch, seq, head, pair];
    for (stride, size) in strides.iter_mut().zip(sizes) {
        if size == 1 {
            *stride = PANEL;
        }
    }
    (sizes, strides)
}

/// Refuses what TMA cannot express: everything must be a multiple of 16 bytes.
fn check_tensor_map(name: &str, tensor: &Tensor, axes: &Axes, pairs: usize) -> Result<()> {
    let size = tensor.dtype().size() as u64;
    let start = tensor.handle().offset_start.unwrap_or(0) + tensor.offset() as u64 * size;
    if !start.is_multiple_of(16) {
        return refuse(format!("{name}: begins at byte {start}, no multiple of 16"));
    }
    let (sizes, strides) = extents(axes, pairs);
    for stride in strides.map(|stride| stride as u64 * size) {
        if stride == 0 || !stride.is_multiple_of(16) || stride >= 1 << 40 {
            let range = "multiples of 16 from 16 to 2⁴⁰ − 16";
            return refuse(format!(
                "{name}: a stride is {stride} bytes, TMA takes {range}"
            ));
        }
    }
    if sizes.iter().any(|n| u32::try_from(*n).is_err()) {
        return refuse(format!("{name}: an axis is longer than 2³² − 1"));
    }
    Ok(())
}

/// A tensor of rank 5 over batch, row, head, pair and column, of which `rows` rows of `panel` columns are loaded at once.
fn tensor_map(
    tensor: &Tensor,
    axes: &Axes,
    pairs: usize,
    columns: usize,
    [rows, panel]: [usize; 2],
) -> TensorMapArg<Tiled> {
    let ([batch, len, heads, pairs], [a, b, c, d]) = extents(axes, pairs);
    let offset = (tensor.offset() * tensor.dtype().size()) as u64;
    let handle = tensor.handle().clone().offset_start(offset);
    let shape = [batch, len, heads, pairs, columns];
    // SAFETY: `check` compared shape and strides with the buffer.
    let argument =
        unsafe { TensorArg::from_raw_parts(handle, [a, b, c, d, 1].into(), shape.into()) };
    let tile_size = [1, rows, 1, 1, panel].into();
    let swizzle = if panel == PANEL {
        TensorMapSwizzle::B128
    } else {
        TensorMapSwizzle::B64
    };
    TensorMapArg::new(TiledArgs { tile_size }, argument, tensor.dtype().elem())
        .with_swizzle(swizzle)
        .with_prefetch(TensorMapPrefetch::B128)
}

/// Enqueues the kernel that [`plan`] returned.
pub(super) fn launch(
    client: &Client,
    inputs: &Inputs,
    checked: &Checked,
    outputs: &Outputs<'_>,
    shape: HopperShape,
) -> Result<()> {
    let problem = &checked.problem;
    let limits = Limits::of(client);
    let layout = &outputs.layout;
    check_reach(&limits, &[outputs.output])?;
    check_reach(&limits, outputs.saved.as_slice())?;
    let tiles = problem.query_len.div_ceil(shape.rows());
    let tiles = tiles.next_multiple_of(shape.cubes());
    let grid = limits.grid([tiles, problem.heads, problem.batch])?;
    let keys = shape.loaded_rows();
    let columns = problem.value_dim / shape.value_parts;
    // SAFETY: the kernel guards every row by the lengths that `check` compared with the buffers.
    unsafe {
        attention_forward_hopper::launch_unchecked(
            client,
            grid,
            CubeDim::new_1d(shape.threads() as u32),
            shape.written() / 4,
            tensor_map(
                &inputs.query,
                &checked.query,
                shape.maps,
                problem.head_dim,
                [shape.rows(), PANEL],
            ),
            tensor_map(
                &inputs.key,
                &checked.key,
                shape.key_maps,
                problem.head_dim,
                [keys, PANEL],
            ),
            tensor_map(
                &inputs.value,
                &checked.value,
                shape.value_parts,
                columns,
                [keys, shape.value_panel],
            ),
            optional(client, inputs.lambda.as_ref()),
            optional(client, inputs.gamma.as_ref()),
            words(client, Some(outputs.output)),
            words(client, outputs.saved),
            optional(client, outputs.lse),
            HopperStridesLaunch::new(
                strides(&checked.lambda),
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

/// A 16-bit tensor's buffer, two elements a word.
fn words(client: &Client, tensor: Option<&Tensor>) -> BufferArg {
    match tensor {
        Some(tensor) => handle(tensor.handle(), tensor.capacity() / 2),
        None => optional(client, None),
    }
}
