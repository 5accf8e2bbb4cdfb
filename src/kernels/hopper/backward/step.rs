//! The launches of the gradients of query, key and value.

use cubecl::prelude::*;

use super::dims::{CUBE, Dims, RESIDENT};
use super::keys::kernel::{KeysStridesLaunch, attention_backward_keys_hopper};
use super::keys::shape::KeysShape;
use super::queries::kernel::attention_backward_queries_hopper;
use super::queries::shape::QueriesShape;
use super::statistics::attention_backward_statistics_hopper;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::hopper::ptx::wgmma::PANEL;
use crate::kernels::hopper::settings::HopperSettings;
use crate::kernels::hopper::tiled::TiledView;
use crate::kernels::passes::statistics::RowResults;
use crate::math::mask::Band;
use crate::plan::{BackwardCall, Bound, Description, Draft, Family, Step, View};

/// Bytes of a word, in which gradients are written: two elements.
const WORD: usize = 4;
/// Units of a cube of the statistics.
const UNITS: usize = 256;

/// The statistics, laid out for the others.
#[derive(Debug)]
pub(in crate::kernels::hopper) struct PackStep {
    grid: [u32; 3],
    planes: View,
    pub packed: View,
    lines: usize,
    len: usize,
    maps: usize,
}

impl PackStep {
    pub(in crate::kernels::hopper) fn new(
        call: &BackwardCall,
        rows: &RowResults,
        device: &Device,
        draft: &mut Draft,
    ) -> Result<Self> {
        let problem = &call.problem;
        let (lines, len) = (problem.batch * problem.heads, problem.query_len);
        let numbers = 2 * problem.maps;
        let packed = draft.scratch(DType::F32, &[lines, padded(len), numbers])?;
        let cubes = (lines * padded(len)).div_ceil(UNITS);
        Ok(Self {
            grid: device.grid([cubes, 1, 1])?,
            planes: rows.statistics,
            packed,
            lines,
            len,
            maps: problem.maps,
        })
    }
}

/// Rows of a line of statistics: an even number, so that lines begin at multiples of 16 bytes.
fn padded(len: usize) -> usize {
    len.next_multiple_of(2)
}

impl Step for PackStep {
    fn describe(&self) -> Description {
        let kernel = "attention_backward_statistics_hopper";
        Description::new(kernel, DType::F32, self.grid, UNITS)
            .of(Family::Hopper, "packed")
            .reading(&[&self.planes])
            .writing(&[&self.packed])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [x, y, z] = self.grid;
        let numbers = 2 * self.maps;
        // SAFETY: the kernel guards every row by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_statistics_hopper::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(UNITS as u32),
                numbers,
                bound.buffer(&self.planes),
                bound.buffer(&self.packed),
                self.lines as u32,
                self.len as u32,
                padded(self.len) as u32,
                self.maps,
            );
        }
    }
}

/// What both kernels are launched with.
#[derive(Debug)]
struct Gradient {
    grid: [u32; 3],
    query: TiledView,
    key: TiledView,
    value: TiledView,
    grad: TiledView,
    band: Band,
    group: u32,
    scale: f32,
    settings: HopperSettings,
    dtype: DType,
}

impl Gradient {
    /// With tiles of so many rows of queries and of keys.
    fn new(
        call: &BackwardCall,
        grad: View,
        dims: &Dims,
        settings: HopperSettings,
        [queries, keys]: [usize; 2],
        grid: [u32; 3],
    ) -> Self {
        let problem = &call.problem;
        let [batch, len, kv_heads, value_dim] = problem.value_shape();
        let parts = dims.value_parts;
        let value = [batch, len, kv_heads, parts, value_dim / parts];
        let [batch, len, heads, _] = problem.output_shape();
        let output = [batch, len, heads, 1, value_dim];
        Self {
            grid,
            query: TiledView::panels(call.query, problem.query_shape(), [queries, PANEL]),
            key: TiledView::panels(call.key, problem.key_shape(), [keys, PANEL]),
            value: TiledView::panels(call.value, value, [keys, PANEL]),
            grad: TiledView::panels(grad, output, [queries, PANEL]),
            band: Band::of(problem),
            group: problem.group() as u32,
            scale: problem.scale,
            settings,
            dtype: problem.dtype,
        }
    }

    fn describe(&self, kernel: &'static str, shared_memory: usize) -> Description {
        Description::new(kernel, self.dtype, self.grid, CUBE)
            .of(Family::Hopper, self.settings)
            .sharing(shared_memory)
            .reading(&[&self.query.view, &self.key.view, &self.value.view])
            .reading(&[&self.grad.view])
    }
}

/// Gradient of the query.
#[derive(Debug)]
pub(in crate::kernels::hopper) struct QueriesStep {
    common: Gradient,
    statistics: View,
    grad_query: View,
    shape: QueriesShape,
}

impl QueriesStep {
    pub(in crate::kernels::hopper) fn new(
        call: &BackwardCall,
        (grad, statistics): (View, View),
        settings: HopperSettings,
        dims: Dims,
        device: &Device,
    ) -> Result<Self> {
        let problem = &call.problem;
        let shape = QueriesShape::new(dims, settings.of_gradient()?);
        shape.check(device)?;
        let tiles = problem.query_len.div_ceil(RESIDENT);
        let grid = device.grid([tiles, problem.heads, problem.batch])?;
        let rows = [RESIDENT, shape.settings.tile];
        Ok(Self {
            common: Gradient::new(call, grad, &dims, settings, rows, grid),
            statistics,
            grad_query: call.grad_query,
            shape,
        })
    }
}

impl Step for QueriesStep {
    fn describe(&self) -> Description {
        let bytes = self.shape.shared_memory();
        let common = self
            .common
            .describe("attention_backward_queries_hopper", bytes);
        common
            .reading(&[&self.statistics])
            .writing(&[&self.grad_query])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_backward_queries_hopper::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(CUBE as u32),
                self.shape.dims.writing().words(),
                step.query.argument(bound),
                step.key.argument(bound),
                step.value.argument(bound),
                step.grad.argument(bound),
                bound.buffer(&self.statistics),
                bound.elements(&self.grad_query, WORD),
                self.grad_query.strides(),
                step.band.argument(),
                step.group,
                step.scale,
                self.shape,
                step.dtype.elem(),
            );
        }
    }
}

/// Gradients of key and value, or of one of them.
#[derive(Debug)]
pub(in crate::kernels::hopper) struct KeysStep {
    common: Gradient,
    statistics: TiledView,
    grad_key: View,
    grad_value: View,
    shape: KeysShape,
}

impl KeysStep {
    /// One launch, or one for each gradient.
    pub(in crate::kernels::hopper) fn all(
        call: &BackwardCall,
        (grad, statistics): (View, View),
        settings: HopperSettings,
        dims: Dims,
        device: &Device,
    ) -> Result<Vec<Self>> {
        let problem = &call.problem;
        let tiles = problem.key_len.div_ceil(RESIDENT);
        let grid = device.grid([tiles, problem.kv_heads, problem.batch])?;
        let numbers = dims.statistics() * padded(problem.query_len);
        let lines = [problem.batch, problem.heads, numbers];
        let shapes = KeysShape::all(dims, settings.of_gradient()?, device)?;
        let step = |shape: KeysShape| {
            let rows = [shape.settings.tile, RESIDENT];
            Self {
                common: Gradient::new(call, grad, &dims, settings, rows, grid),
                statistics: TiledView::lines(statistics, lines, shape.statistics()),
                grad_key: call.grad_key,
                grad_value: call.grad_value,
                shape,
            }
        };
        Ok(shapes.into_iter().map(step).collect())
    }

    /// The tensors that this launch writes.
    fn written(&self) -> Vec<&View> {
        let key = self.shape.key.then_some(&self.grad_key);
        let value = self.shape.value.then_some(&self.grad_value);
        key.into_iter().chain(value).collect()
    }
}

impl Step for KeysStep {
    fn describe(&self) -> Description {
        let bytes = self.shape.shared_memory();
        let common = self
            .common
            .describe("attention_backward_keys_hopper", bytes);
        common
            .reading(&[&self.statistics.view])
            .writing(&self.written())
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let step = &self.common;
        let [x, y, z] = step.grid;
        let at = KeysStridesLaunch::new(self.grad_key.strides(), self.grad_value.strides());
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_backward_keys_hopper::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(CUBE as u32),
                self.shape.dims.writing().words(),
                step.query.argument(bound),
                step.key.argument(bound),
                step.value.argument(bound),
                step.grad.argument(bound),
                self.statistics.argument(bound),
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
