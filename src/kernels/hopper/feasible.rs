//! Which problems the kernels for compute capability 9.0 take.

use super::backward::dims::Dims;
use super::forward::shape::{HopperShape, PANEL};
use super::settings::HopperSettings;
use super::table;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::warp::ptx::Half;
use crate::plan::{AxisStrides, BackwardCall, ForwardCall, Pass, View};
use crate::problem::Problem;

/// Scales with which masked scores, and those of no key at all, are far below and yet finite.
const SCALES: core::ops::RangeInclusive<f32> = 1e-20..=1e6;
/// The device's number of major times ten and minor. Its instructions exist on this one, not on later ones.
const COMPUTE_CAPABILITY: u32 = 90;

/// What is compiled into the forward kernel for a call, or why there is none.
pub(super) fn forward_shape(
    call: &ForwardCall,
    device: &Device,
    asked: Option<HopperSettings>,
) -> Result<HopperShape> {
    let problem = &call.problem;
    check_device(device)?;
    let shape = problem_shape(problem, device, asked, value_pieces(call)?)?;
    let tensors = [
        (
            &call.query,
            [problem.query_len, problem.heads, problem.maps],
        ),
        (
            &call.key,
            [problem.key_len, problem.kv_heads, problem.key_maps()],
        ),
        (
            &call.value,
            [problem.key_len, problem.kv_heads, shape.value_parts],
        ),
    ];
    for (view, [len, heads, pairs]) in tensors {
        check_tensor_map(view, [problem.batch, len, heads, pairs])?;
    }
    let written = [Some(&call.output), call.saved.as_ref()];
    let written: Vec<_> = written.into_iter().flatten().collect();
    if !written.iter().all(|view| view.strides.divisible(2)) {
        return refuse("outputs are written two columns at a time".into());
    }
    Ok(HopperShape {
        gamma: call.gamma.is_some(),
        save_outputs: call.saved.is_some(),
        save_lse: call.lse.is_some(),
        wide: wide(problem, &written),
        ..shape
    })
}

/// The same for a problem that lies row-major in memory.
pub(super) fn problem_shape(
    problem: &Problem,
    device: &Device,
    asked: Option<HopperSettings>,
    (value_parts, value_panel): (usize, usize),
) -> Result<HopperShape> {
    check_device(device)?;
    let half = half(problem.dtype)?;
    let (d, dv) = (problem.head_dim, problem.value_dim);
    let Some(settings) = asked.or_else(|| table::settings(Pass::Forward, problem)) else {
        return refuse(format!("no settings for head dimensions {d} and {dv}"));
    };
    if !d.is_multiple_of(16) || !dv.is_multiple_of(16) {
        return refuse("head dimensions must be multiples of 16".into());
    }
    if !SCALES.contains(&problem.scale) {
        return refuse(format!("scale {} is outside {SCALES:?}", problem.scale));
    }
    let shape = HopperShape {
        settings,
        head_dim: d,
        value_dim: dv,
        maps: problem.maps,
        key_maps: problem.key_maps(),
        value_parts,
        value_panel,
        half,
        sides: problem.band().0,
        norm: problem.norm.is_some(),
        gamma: false,
        save_outputs: false,
        save_lse: false,
        wide: true,
    };
    settings.check(problem, shape.shared_memory(), device)?;
    Ok(shape)
}

/// What is compiled into the gradients' kernels for a call with `grad`, the gradient of the output before the norm.
pub(super) fn backward_dims(call: &BackwardCall, grad: &View, device: &Device) -> Result<Dims> {
    let problem = &call.problem;
    let half = problem.value_dim / 2;
    let value_parts = if call.value.strides.pair == half {
        1
    } else {
        2
    };
    if value_parts == 2 && !half.is_multiple_of(PANEL) {
        return refuse(format!(
            "halves of a value that lie apart have {half} columns, expected a multiple of {PANEL}"
        ));
    }
    let dims = problem_dims(problem, device, value_parts)?;
    let (queries, keys) = (
        [problem.query_len, problem.heads],
        [problem.key_len, problem.kv_heads],
    );
    let tensors = [
        (&call.query, queries, problem.maps),
        (&call.key, keys, problem.key_maps()),
        (&call.value, keys, value_parts),
        (grad, queries, 1),
    ];
    for (view, [len, heads], pairs) in tensors {
        check_tensor_map(view, [problem.batch, len, heads, pairs])?;
    }
    let written = [&call.grad_query, &call.grad_key, &call.grad_value];
    if !written.iter().all(|view| view.strides.divisible(2)) {
        return refuse("gradients are written two columns at a time".into());
    }
    let aligned = |view: &&View| view.residue.is_multiple_of(16) && view.strides.divisible(8);
    let wide = problem.head_dim.is_multiple_of(32) && half.is_multiple_of(32);
    Ok(Dims {
        wide: wide && written.iter().all(aligned),
        ..dims
    })
}

/// The same for a problem that lies row-major in memory.
pub(super) fn problem_dims(problem: &Problem, device: &Device, value_parts: usize) -> Result<Dims> {
    check_device(device)?;
    if !problem.head_dim.is_multiple_of(16) || !problem.value_dim.is_multiple_of(16) {
        return refuse("head dimensions must be multiples of 16".into());
    }
    if problem.head_dim > 256 || problem.value_dim > 256 {
        return refuse("head dimensions must be at most 256".into());
    }
    if !SCALES.contains(&problem.scale) {
        return refuse(format!("scale {} is outside {SCALES:?}", problem.scale));
    }
    Ok(Dims {
        head_dim: problem.head_dim,
        value_dim: problem.value_dim,
        maps: problem.maps,
        key_maps: problem.key_maps(),
        value_parts,
        half: half(problem.dtype)?,
        sides: problem.band().0,
        wide: true,
    })
}

/// The settings of a gradient pass, asked for or the table's.
pub(super) fn gradient_settings(
    pass: Pass,
    problem: &Problem,
    asked: Option<HopperSettings>,
) -> Result<HopperSettings> {
    let (d, dv) = (problem.head_dim, problem.value_dim);
    match asked.or_else(|| table::settings(pass, problem)) {
        Some(settings) => Ok(settings),
        None => refuse(format!("no settings for head dimensions {d} and {dv}")),
    }
}

/// Whether eight columns of every output lie at a multiple of 16 bytes, and each warpgroup has four times as many.
fn wide(problem: &Problem, written: &[&View]) -> bool {
    let aligned = |view: &&View| view.residue.is_multiple_of(16) && view.strides.divisible(8);
    written.iter().all(aligned) && problem.value_dim.is_multiple_of(32 * problem.maps)
}

fn refuse<T>(problem: String) -> Result<T> {
    let settings = "hopper".into();
    Err(Error::Settings { settings, problem })
}

fn check_device(device: &Device) -> Result<()> {
    if device.compute_capability == Some(COMPUTE_CAPABILITY) {
        return Ok(());
    }
    refuse(format!(
        "needs CUDA on compute capability 9.0, this is {} on {}",
        device.runtime(),
        device.name()
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
fn value_pieces(call: &ForwardCall) -> Result<(usize, usize)> {
    let half = call.problem.value_dim / 2;
    if call.value.strides.pair == half {
        return Ok(WHOLE_VALUES);
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

/// Pieces and columns of a panel of values whose halves do not lie apart.
pub(super) const WHOLE_VALUES: (usize, usize) = (1, PANEL);

/// Strides of a tensor map over batch, row, head and pair. Those of axes of one element are made up.
pub(super) fn map_strides(view: &View, sizes: [usize; 4]) -> [usize; 4] {
    let AxisStrides {
        batch,
        seq,
        head,
        pair,
        ..
    } = view.strides;
    let mut strides = [batch, seq, head, pair];
    for (stride, size) in strides.iter_mut().zip(sizes) {
        if size == 1 {
            *stride = PANEL;
        }
    }
    strides
}

/// Refuses what TMA cannot express: everything must be a multiple of 16 bytes.
fn check_tensor_map(view: &View, sizes: [usize; 4]) -> Result<()> {
    let (name, size) = (view.operand.name(), view.dtype.size());
    let start = view.residue + view.strides.offset * size;
    if !start.is_multiple_of(16) {
        return refuse(format!("{name}: begins at byte {start}, no multiple of 16"));
    }
    for stride in map_strides(view, sizes).map(|stride| (stride * size) as u64) {
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
