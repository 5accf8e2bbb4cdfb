//! Forward on any device: the launch of the portable kernel.

use cubecl::prelude::*;

use super::inputs::{Checked, Inputs};
use super::launch::{band, buffer, check_loops, check_reach, optional, strides, vector_width};
use super::outputs::{OutputLayout, Outputs};
use crate::error::Result;
use crate::kernels::portable::forward::kernel::{
    ForwardNumbersLaunch, ForwardStridesLaunch, attention_forward,
};
use crate::kernels::portable::forward::shape::ForwardShape;
use crate::kernels::portable::tile::Tile;
use crate::problem::Problem;
use crate::tuning::Limits;

/// What is compiled into the kernel.
pub(super) fn shape_of(
    problem: &Problem,
    inputs: &Inputs,
    layout: &OutputLayout,
    tile: Tile,
) -> ForwardShape {
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

/// Enqueues the kernel.
pub(super) fn launch(
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
