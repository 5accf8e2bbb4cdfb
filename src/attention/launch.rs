//! From checked tensors to kernel arguments, and from a launch to its result.

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::axes::AxisStrides;
use crate::error::{Error, Result};
use crate::kernels::portable::tile::Tile;
use crate::math::layout::StridesLaunch;
use crate::math::mask::BandLaunch;
use crate::problem::Problem;
use crate::tensor::Tensor;
use crate::tuning::{Limits, Pass, Settings, candidates};

/// The tile for a pass: the override's, or the first of the table that the device has the shared memory for.
pub(crate) fn choose_tile(
    limits: &Limits,
    pass: Pass,
    problem: &Problem,
    chosen: Option<Settings>,
    shared_memory: impl Fn(Tile) -> usize,
) -> Result<Tile> {
    let fit = |settings: Settings| {
        let tile = settings.tile(limits)?;
        limits.check(
            "bytes of shared memory",
            shared_memory(tile),
            limits.shared_memory,
        )?;
        Ok(tile)
    };
    if let Some(settings) = chosen {
        return fit(settings);
    }
    let mut refusal = None;
    for settings in candidates(limits.class, pass, problem) {
        match fit(limits.adapt(settings)) {
            Ok(tile) => return Ok(tile),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::Settings {
        settings: format!("table for the {pass} kernel"),
        problem: format!(
            "no row for head dimensions {} and {}",
            problem.head_dim, problem.value_dim
        ),
    }))
}

/// Elements that one global access moves: 4 where every row of every tensor begins at a multiple of 4, else 1.
pub(crate) fn vector_width(tensors: &[&AxisStrides]) -> usize {
    if tensors.iter().all(|axes| axes.divisible(4)) {
        4
    } else {
        1
    }
}

/// A tensor's buffer as a kernel argument.
pub(crate) fn buffer(tensor: &Tensor) -> BufferArg {
    handle(tensor.handle(), tensor.capacity())
}

/// A buffer of `len` elements as a kernel argument.
pub(crate) fn handle(handle: &Handle, len: usize) -> BufferArg {
    // SAFETY: `len` is at most what the buffer holds, and kernels stay inside the shapes that were checked against it.
    unsafe { BufferArg::from_raw_parts(handle.clone(), len) }
}

/// A tensor's buffer, or the smallest there is where a kernel has an argument that it does not use.
pub(crate) fn optional(client: &Client, tensor: Option<&Tensor>) -> BufferArg {
    tensor.map_or_else(|| handle(&client.empty(16), 4), buffer)
}

pub(crate) fn strides(axes: &AxisStrides) -> StridesLaunch {
    let AxisStrides {
        offset,
        batch,
        seq,
        head,
        pair,
    } = *axes;
    let [offset, batch, seq, head, pair] = [offset, batch, seq, head, pair].map(|n| n as u32);
    StridesLaunch::new(offset, batch, seq, head, pair)
}

pub(crate) fn band(problem: &Problem) -> BandLaunch {
    let (_, left, right) = problem.band();
    BandLaunch::new(
        problem.query_len as i32,
        problem.key_len as i32,
        left,
        right,
    )
}

/// Refuses a launch in which a unit loops longer than the device lets it: over the `len` rows of the other operand, or
/// those of them that a window lets it see, a tile at a time.
pub(crate) fn check_loops(
    limits: &Limits,
    problem: &Problem,
    tile: Tile,
    len: usize,
    tile_loops: usize,
) -> Result<()> {
    let (left, right) = problem.mask.sides();
    let span = match (left, right) {
        (Some(left), Some(right)) => left.saturating_add(right).saturating_add(tile.tile_rows()),
        _ => len,
    };
    let tiles = len.min(span).div_ceil(tile.tile_cols()) + 1;
    limits.check(
        "loop iterations of a unit",
        tiles * tile_loops,
        limits.loops,
    )
}

/// Refuses tensors whose elements a 32-bit index cannot reach.
pub(crate) fn check_reach(limits: &Limits, tensors: &[&Tensor]) -> Result<()> {
    for tensor in tensors {
        limits.check(
            "elements of one buffer",
            tensor.capacity(),
            u32::MAX as usize,
        )?;
    }
    Ok(())
}

/// Reports a launch that the device refused, by a buffer that it should have written.
pub(crate) fn check_launch(
    client: &Client,
    operation: &'static str,
    written: &Tensor,
) -> Result<()> {
    client
        .check([written.handle()])
        .map_err(|reason| Error::Launch {
            operation,
            reason: reason.to_string(),
        })
}
