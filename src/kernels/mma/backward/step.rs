//! The launches of the backward kernels.

use cubecl::prelude::*;

use super::key_value::{MmaKeyValueStridesLaunch, attention_backward_key_value_mma};
use super::query::{MmaQueryStridesLaunch, attention_backward_query_mma};
use super::shape::{KeyValueShape, QueryShape};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::mma::dims::Dims;
use crate::kernels::mma::feasible::{key_value_shape, query_shape};
use crate::kernels::mma::settings::MmaSettings;
use crate::kernels::passes::statistics::RowResults;
use crate::math::mask::Band;
use crate::plan::{BackwardCall, Bound, Description, Family, Step, View};

/// Bytes of a word, in which gradients are written: two elements.
const WORD: usize = 4;

/// What both launches are made of.
#[derive(Debug)]
struct Gradient {
    grid: [u32; 3],
    query: View,
    key: View,
    value: View,
    /// Gradient of the output before the norm.
    grad: View,
    statistics: View,
    band: Band,
    group: u32,
    scale: f32,
    dtype: DType,
}

/// Gradient of the query.
#[derive(Debug)]
pub(in crate::kernels::mma) struct MmaQueryStep {
    common: Gradient,
    grad_query: View,
    shape: QueryShape,
}

/// Gradients of key and value.
#[derive(Debug)]
pub(in crate::kernels::mma) struct MmaKeyValueStep {
    common: Gradient,
    grad_key: View,
    grad_value: View,
    shape: KeyValueShape,
}

impl Gradient {
    fn new(call: &BackwardCall, rows: &RowResults, grid: [u32; 3]) -> Self {
        let problem = &call.problem;
        Self {
            grid,
            query: call.query,
            key: call.key,
            value: call.value,
            grad: rows.grad,
            statistics: rows.statistics,
            band: Band::of(problem),
            group: problem.group() as u32,
            scale: problem.scale,
            dtype: problem.dtype,
        }
    }

    fn describe(&self, kernel: &'static str, dims: &Dims, shared_memory: usize) -> Description {
        Description::new(kernel, self.dtype, self.grid, dims.threads())
            .of(Family::Mma, dims.settings)
            .sharing(shared_memory)
            .reading(&[&self.query, &self.key, &self.value])
            .reading(&[&self.grad, &self.statistics])
    }
}

impl MmaQueryStep {
    /// The launch for a call, with the settings asked for or the table's, or why there is none.
    pub(in crate::kernels::mma) fn new(
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        asked: Option<MmaSettings>,
    ) -> Result<Self> {
        let shape = query_shape(call, rows, device, asked)?;
        let problem = &call.problem;
        let tiles = problem.query_len.div_ceil(shape.dims.rows());
        let grid = device.grid([tiles, problem.heads, problem.batch])?;
        Ok(Self {
            common: Gradient::new(call, rows, grid),
            grad_query: call.grad_query,
            shape,
        })
    }
}

impl Step for MmaQueryStep {
    fn describe(&self) -> Description {
        let kernel = "attention_backward_query_mma";
        let bytes = self.shape.shared_memory();
        let common = self.common.describe(kernel, &self.shape.dims, bytes);
        common.writing(&[&self.grad_query])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        let at = MmaQueryStridesLaunch::new(
            step.query.strides(),
            step.key.strides(),
            step.value.strides(),
            step.grad.strides(),
            self.grad_query.strides(),
        );
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_backward_query_mma::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.dims.threads() as u32),
                self.shape.writing().words(),
                bound.buffer(&step.query),
                bound.buffer(&step.key),
                bound.buffer(&step.value),
                bound.buffer(&step.grad),
                bound.buffer(&step.statistics),
                bound.elements(&self.grad_query, WORD),
                at,
                step.band.argument(),
                step.group,
                step.scale,
                self.shape,
                step.dtype.elem(),
            );
        }
    }
}

impl MmaKeyValueStep {
    /// The launch for a call, with the settings asked for or the table's, or why there is none.
    pub(in crate::kernels::mma) fn new(
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        asked: Option<MmaSettings>,
    ) -> Result<Self> {
        let shape = key_value_shape(call, rows, device, asked)?;
        let problem = &call.problem;
        let tiles = problem.key_len.div_ceil(shape.dims.rows());
        let grid = device.grid([tiles, problem.kv_heads, problem.batch])?;
        Ok(Self {
            common: Gradient::new(call, rows, grid),
            grad_key: call.grad_key,
            grad_value: call.grad_value,
            shape,
        })
    }
}

impl Step for MmaKeyValueStep {
    fn describe(&self) -> Description {
        let kernel = "attention_backward_key_value_mma";
        let bytes = self.shape.shared_memory();
        let common = self.common.describe(kernel, &self.shape.dims, bytes);
        common.writing(&[&self.grad_key, &self.grad_value])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        let at = MmaKeyValueStridesLaunch::new(
            step.query.strides(),
            step.key.strides(),
            step.value.strides(),
            step.grad.strides(),
            self.grad_key.strides(),
            self.grad_value.strides(),
        );
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_backward_key_value_mma::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.dims.threads() as u32),
                self.shape.key_writing().words(),
                self.shape.value_writing().words(),
                bound.buffer(&step.query),
                bound.buffer(&step.key),
                bound.buffer(&step.value),
                bound.buffer(&step.grad),
                bound.buffer(&step.statistics),
                bound.elements(&self.grad_key, WORD),
                bound.elements(&self.grad_value, WORD),
                at,
                step.band.argument(),
                step.group,
                step.scale,
                self.shape,
                step.dtype.elem(),
            );
        }
    }
}
