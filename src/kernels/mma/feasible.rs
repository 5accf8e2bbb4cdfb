//! Which problems the kernels for `mma.sync` take.

use super::backward::shape::{KeyValueShape, QueryShape};
use super::dims::Dims;
use super::forward::shape::MmaForwardShape;
use super::settings::MmaSettings;
use super::table;
use super::tile::FRAGMENT;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::passes::statistics::RowResults;
use crate::kernels::warp::ptx::Half;
use crate::plan::{BackwardCall, ForwardCall, Pass, View};
use crate::problem::Problem;

/// Scales with which masked scores, and those of no key at all, are far below and yet finite.
const SCALES: core::ops::RangeInclusive<f32> = 1e-20..=1e6;
/// The first device with asynchronous copies and bf16, as major times ten and minor.
const COMPUTE_CAPABILITY: u32 = 80;
/// The greatest head and value dimension.
const GREATEST: usize = 256;
/// Elements of 16 bytes, which are copied at once.
const COPIED: usize = 8;

/// What is compiled into the forward kernel for a call, or why there is none.
pub(super) fn forward_shape(
    call: &ForwardCall,
    device: &Device,
    asked: Option<MmaSettings>,
) -> Result<MmaForwardShape> {
    let problem = &call.problem;
    let pass = Pass::Forward;
    let dims = |settings| dims(problem, settings, value_parts(problem, &call.value));
    let shape = choose(pass, problem, device, asked, |settings| {
        let shape = plain_forward(dims(settings)?, problem);
        Ok((shape, shape.shared_memory()))
    })?;
    check_copied(&[&call.query, &call.key, &call.value])?;
    let written = [Some(&call.output), call.saved.as_ref()];
    let written: Vec<_> = written.into_iter().flatten().collect();
    check_written(&written)?;
    Ok(MmaForwardShape {
        gamma: call.gamma.is_some(),
        save_outputs: call.saved.is_some(),
        save_lse: call.lse.is_some(),
        wide: wide(shape.kept(), &written),
        ..shape
    })
}

/// What is compiled into the kernel for the query's gradient.
pub(super) fn query_shape(
    call: &BackwardCall,
    rows: &RowResults,
    device: &Device,
    asked: Option<MmaSettings>,
) -> Result<QueryShape> {
    let problem = &call.problem;
    let parts = value_parts(problem, &call.value);
    let shape = choose(Pass::QueryGradient, problem, device, asked, |settings| {
        let shape = QueryShape {
            dims: dims(problem, settings, parts)?,
            wide: true,
        };
        Ok((shape, shape.shared_memory()))
    })?;
    check_copied(&[&call.query, &call.key, &call.value, &rows.grad])?;
    check_written(&[&call.grad_query])?;
    let wide = wide(problem.head_dim, &[&call.grad_query]);
    Ok(QueryShape { wide, ..shape })
}

/// What is compiled into the kernel for the gradients of key and value.
pub(super) fn key_value_shape(
    call: &BackwardCall,
    rows: &RowResults,
    device: &Device,
    asked: Option<MmaSettings>,
) -> Result<KeyValueShape> {
    let problem = &call.problem;
    let pass = Pass::KeyValueGradient;
    let parts = value_parts(problem, &call.value);
    let grad_parts = value_parts(problem, &call.grad_value);
    let shape = choose(pass, problem, device, asked, |settings| {
        let shape = KeyValueShape {
            grad_parts,
            ..plain_key_value(dims(problem, settings, parts)?)
        };
        Ok((shape, shape.shared_memory()))
    })?;
    check_copied(&[&call.query, &call.key, &call.value, &rows.grad])?;
    check_written(&[&call.grad_key, &call.grad_value])?;
    let columns = shape.kept_values() / if shape.dims.splits() { 1 } else { grad_parts };
    Ok(KeyValueShape {
        wide_key: wide(problem.head_dim, &[&call.grad_key]),
        wide_value: wide(columns, &[&call.grad_value]),
        ..shape
    })
}

/// Whether a problem that lies row-major in memory can be launched with settings.
pub(super) fn takes(pass: Pass, problem: &Problem, device: &Device, settings: MmaSettings) -> bool {
    let asked = Some(settings);
    let memory = |settings| -> Result<((), usize)> {
        let dims = dims(problem, settings, 1)?;
        Ok(((), shared_memory(pass, dims, problem)))
    };
    choose(pass, problem, device, asked, memory).is_ok()
}

fn shared_memory(pass: Pass, dims: Dims, problem: &Problem) -> usize {
    match pass {
        Pass::Forward => plain_forward(dims, problem).shared_memory(),
        Pass::QueryGradient => QueryShape { dims, wide: true }.shared_memory(),
        Pass::KeyValueGradient => plain_key_value(dims).shared_memory(),
    }
}

fn plain_forward(dims: Dims, problem: &Problem) -> MmaForwardShape {
    MmaForwardShape {
        dims,
        norm: problem.norm.is_some(),
        gamma: false,
        save_outputs: false,
        save_lse: false,
        wide: true,
    }
}

fn plain_key_value(dims: Dims) -> KeyValueShape {
    KeyValueShape {
        dims,
        grad_parts: 1,
        wide_key: true,
        wide_value: true,
    }
}

/// The shape for the settings asked for, or of the table's for those that the device has room for.
fn choose<S>(
    pass: Pass,
    problem: &Problem,
    device: &Device,
    asked: Option<MmaSettings>,
    shape: impl Fn(MmaSettings) -> Result<(S, usize)>,
) -> Result<S> {
    check_device(device)?;
    check_problem(problem)?;
    let fitting = |settings: MmaSettings| {
        settings.check()?;
        check_halves(pass, problem, settings)?;
        let (shape, bytes) = shape(settings)?;
        device.check("bytes of shared memory", bytes, device.shared_memory)?;
        Ok(shape)
    };
    if let Some(asked) = asked {
        return fitting(asked);
    }
    let mut reason = None;
    for settings in table::rows(pass, problem) {
        match fitting(settings) {
            Ok(shape) => return Ok(shape),
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    let (d, dv) = (problem.head_dim, problem.value_dim);
    let none = || no_settings(pass, d, dv);
    Err(reason.unwrap_or_else(none))
}

fn no_settings(pass: Pass, d: usize, dv: usize) -> Error {
    error(format!(
        "no settings for {pass}, head dimensions {d} and {dv}"
    ))
}

/// Where two warps share their rows, each finishes half of the value's columns.
fn check_halves(pass: Pass, problem: &Problem, settings: MmaSettings) -> Result<()> {
    let halves = pass != Pass::QueryGradient && settings.splits(problem.maps);
    if halves && !problem.value_dim.is_multiple_of(2 * FRAGMENT) {
        let dv = problem.value_dim;
        return refuse(format!(
            "{settings}: halves of {dv} columns are no multiples of {FRAGMENT}"
        ));
    }
    Ok(())
}

fn dims(problem: &Problem, settings: MmaSettings, value_parts: usize) -> Result<Dims> {
    if !(problem.value_dim / value_parts).is_multiple_of(FRAGMENT) {
        let half = problem.value_dim / value_parts;
        return refuse(format!(
            "halves of a value that lie apart have {half} columns, expected a multiple of {FRAGMENT}"
        ));
    }
    Ok(Dims {
        settings,
        head_dim: problem.head_dim,
        value_dim: problem.value_dim,
        maps: problem.maps,
        key_maps: problem.key_maps(),
        value_parts,
        half: half(problem.dtype)?,
        sides: problem.band().0,
    })
}

fn check_device(device: &Device) -> Result<()> {
    let enough = |version| version >= COMPUTE_CAPABILITY;
    if device.compute_capability.is_some_and(enough) {
        return Ok(());
    }
    refuse(format!(
        "needs CUDA on compute capability 8.0 or later, this is {} on {}",
        device.runtime(),
        device.name()
    ))
}

fn check_problem(problem: &Problem) -> Result<()> {
    let (d, dv) = (problem.head_dim, problem.value_dim);
    if [d, dv]
        .iter()
        .any(|dim| !dim.is_multiple_of(FRAGMENT) || *dim > GREATEST)
    {
        return refuse(format!(
            "head dimensions are {d} and {dv}, expected multiples of {FRAGMENT} up to {GREATEST}"
        ));
    }
    if !SCALES.contains(&problem.scale) {
        return refuse(format!("scale {} is outside {SCALES:?}", problem.scale));
    }
    half(problem.dtype).map(drop)
}

fn half(dtype: DType) -> Result<Half> {
    match dtype {
        DType::F16 => Ok(Half::F16),
        DType::BF16 => Ok(Half::Bf16),
        DType::F32 => refuse("tensor cores have no f32".into()),
    }
}

/// Pieces of a value: its halves where they lie apart.
fn value_parts(problem: &Problem, value: &View) -> usize {
    if value.strides.pair == problem.value_dim / 2 {
        1
    } else {
        2
    }
}

/// Refuses tensors of which not all rows begin at multiples of 16 bytes.
fn check_copied(views: &[&View]) -> Result<()> {
    for view in views {
        if !view.residue.is_multiple_of(16) || !view.strides.divisible(COPIED) {
            let name = view.operand.name();
            return refuse(format!(
                "{name}: rows do not all begin at multiples of 16 bytes"
            ));
        }
    }
    Ok(())
}

fn check_written(views: &[&View]) -> Result<()> {
    for view in views {
        if !view.residue.is_multiple_of(4) || !view.strides.divisible(2) {
            let name = view.operand.name();
            return refuse(format!("{name}: it is written two columns at a time"));
        }
    }
    Ok(())
}

/// Whether eight columns of every tensor lie at a multiple of 16 bytes, and a warp has four times as many.
fn wide(columns: usize, written: &[&View]) -> bool {
    let aligned = |view: &&View| view.residue.is_multiple_of(16) && view.strides.divisible(8);
    written.iter().all(aligned) && columns.is_multiple_of(32)
}

fn error(problem: String) -> Error {
    let settings = "mma".into();
    Error::Settings { settings, problem }
}

fn refuse<T>(problem: String) -> Result<T> {
    Err(error(problem))
}
