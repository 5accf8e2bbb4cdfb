//! The launches of the gradients of query, key and value.

use cubecl::prelude::*;

use super::key_value::{self, KeyValueGradientStridesLaunch, attention_backward_key_value};
use super::query::{self, QueryGradientStridesLaunch, attention_backward_query};
use super::shape::GradientShape;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::passes::statistics::RowResults;
use crate::kernels::portable::limits::{check_loops, choose};
use crate::kernels::portable::settings::PortableSettings;
use crate::math::mask::Band;
use crate::plan::{BackwardCall, Bound, Description, Family, Pass, Step, View, vector_width};
use crate::problem::Problem;

/// What both launches are made of.
#[derive(Debug)]
struct Gradient {
    settings: PortableSettings,
    grid: [u32; 3],
    width: usize,
    query: View,
    key: View,
    value: View,
    /// Gradient of the output before the norm.
    grad: View,
    statistics: View,
    band: Band,
    group: u32,
    scale: f32,
    shape: GradientShape,
    dtype: DType,
}

/// Gradient of the query.
#[derive(Debug)]
pub(in crate::kernels::portable) struct QueryStep {
    common: Gradient,
    grad_query: View,
}

/// Gradients of key and value.
#[derive(Debug)]
pub(in crate::kernels::portable) struct KeyValueStep {
    common: Gradient,
    grad_key: View,
    grad_value: View,
}

impl Gradient {
    fn new(
        call: &BackwardCall,
        rows: &RowResults,
        (settings, shape): (PortableSettings, GradientShape),
        grid: [u32; 3],
        written: &[&View],
    ) -> Self {
        let problem = &call.problem;
        let read = [&call.query, &call.key, &call.value, &rows.grad];
        Self {
            settings,
            grid,
            width: vector_width(&read).min(vector_width(written)),
            query: call.query,
            key: call.key,
            value: call.value,
            grad: rows.grad,
            statistics: rows.statistics,
            band: Band::of(problem),
            group: problem.group() as u32,
            scale: problem.scale,
            shape,
            dtype: problem.dtype,
        }
    }

    fn describe(&self, kernel: &'static str, shared_memory: usize) -> Description {
        let units = self.shape.tile.units();
        Description::new(kernel, self.dtype, self.grid, units)
            .of(Family::Portable, self.settings)
            .sharing(shared_memory)
            .reading(&[&self.query, &self.key, &self.value])
            .reading(&[&self.grad, &self.statistics])
    }

    fn cube_dim(&self) -> CubeDim {
        CubeDim::new_1d(self.shape.tile.units() as u32)
    }
}

/// What is compiled into the kernel of a pass, with the settings asked for or the table's.
fn shape(
    pass: Pass,
    problem: &Problem,
    device: &Device,
    asked: Option<PortableSettings>,
    shared_memory: fn(&GradientShape) -> usize,
) -> Result<(PortableSettings, GradientShape)> {
    let memory = |tile| shared_memory(&GradientShape::of(problem, tile));
    let (settings, tile) = choose(pass, problem, device, asked, memory)?;
    Ok((settings, GradientShape::of(problem, tile)))
}

impl QueryStep {
    /// The launch for a call, with the settings asked for or the table's.
    pub(in crate::kernels::portable) fn new(
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        asked: Option<PortableSettings>,
    ) -> Result<Self> {
        let problem = &call.problem;
        let memory = query::shared_memory;
        let (settings, shape) = shape(Pass::QueryGradient, problem, device, asked, memory)?;
        let tile = shape.tile;
        check_loops(device, problem, tile, problem.key_len, shape.tile_loops())?;
        let tiles = problem.query_len.div_ceil(tile.tile_rows());
        let grid = device.grid([tiles, problem.heads, problem.batch])?;
        let written = [&call.grad_query];
        Ok(Self {
            common: Gradient::new(call, rows, (settings, shape), grid, &written),
            grad_query: call.grad_query,
        })
    }
}

impl Step for QueryStep {
    fn describe(&self) -> Description {
        let bytes = query::shared_memory(&self.common.shape);
        let common = self.common.describe("attention_backward_query", bytes);
        common.writing(&[&self.grad_query])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        let at = QueryGradientStridesLaunch::new(
            step.query.strides(),
            step.key.strides(),
            step.value.strides(),
            step.grad.strides(),
            self.grad_query.strides(),
        );
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_query::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                step.cube_dim(),
                step.width,
                bound.buffer(&step.query),
                bound.buffer(&step.key),
                bound.buffer(&step.value),
                bound.buffer(&step.grad),
                bound.buffer(&step.statistics),
                bound.buffer(&self.grad_query),
                at,
                step.band.argument(),
                step.group,
                step.scale,
                step.shape,
                step.dtype.elem(),
            );
        }
    }
}

impl KeyValueStep {
    /// The launch for a call, with the settings asked for or the table's.
    pub(in crate::kernels::portable) fn new(
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        asked: Option<PortableSettings>,
    ) -> Result<Self> {
        let problem = &call.problem;
        let memory = key_value::shared_memory;
        let (settings, shape) = shape(Pass::KeyValueGradient, problem, device, asked, memory)?;
        let loops = problem.group() * key_value::tile_loops(&shape);
        check_loops(device, problem, shape.tile, problem.query_len, loops)?;
        let tiles = problem.key_len.div_ceil(shape.tile.tile_rows());
        let grid = device.grid([tiles, problem.kv_heads, problem.batch])?;
        let written = [&call.grad_key, &call.grad_value];
        Ok(Self {
            common: Gradient::new(call, rows, (settings, shape), grid, &written),
            grad_key: call.grad_key,
            grad_value: call.grad_value,
        })
    }
}

impl Step for KeyValueStep {
    fn describe(&self) -> Description {
        let bytes = key_value::shared_memory(&self.common.shape);
        let common = self.common.describe("attention_backward_key_value", bytes);
        common.writing(&[&self.grad_key, &self.grad_value])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        let at = KeyValueGradientStridesLaunch::new(
            step.query.strides(),
            step.key.strides(),
            step.value.strides(),
            step.grad.strides(),
            self.grad_key.strides(),
            self.grad_value.strides(),
        );
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_key_value::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                step.cube_dim(),
                step.width,
                bound.buffer(&step.query),
                bound.buffer(&step.key),
                bound.buffer(&step.value),
                bound.buffer(&step.grad),
                bound.buffer(&step.statistics),
                bound.buffer(&self.grad_key),
                bound.buffer(&self.grad_value),
                at,
                step.band.argument(),
                step.group,
                step.scale,
                step.shape,
                step.dtype.elem(),
            );
        }
    }
}
