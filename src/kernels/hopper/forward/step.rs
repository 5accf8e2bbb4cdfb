//! The launch of the forward kernel.

use cubecl::prelude::*;

use super::epilogue::HopperStridesLaunch;
use super::kernel::attention_forward_hopper;
use super::shape::{HopperShape, PANEL};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::hopper::feasible::forward_shape;
use crate::kernels::hopper::settings::HopperSettings;
use crate::kernels::hopper::tiled::TiledView;
use crate::kernels::numbers::ForwardNumbers;
use crate::math::mask::Band;
use crate::plan::{Bound, Description, Draft, Family, ForwardCall, Step, View};

#[derive(Debug)]
pub(in crate::kernels::hopper) struct HopperForwardStep {
    grid: [u32; 3],
    query: TiledView,
    key: TiledView,
    value: TiledView,
    lambda: View,
    gamma: View,
    output: View,
    saved: View,
    lse: View,
    band: Band,
    numbers: ForwardNumbers,
    shape: HopperShape,
    dtype: DType,
}

impl HopperForwardStep {
    /// The launch for a call, with the settings asked for or the table's, or why there is none.
    pub(in crate::kernels::hopper) fn new(
        call: &ForwardCall,
        device: &Device,
        asked: Option<HopperSettings>,
        draft: &mut Draft,
    ) -> Result<Self> {
        let shape = forward_shape(call, device, asked)?;
        let problem = &call.problem;
        let tiles = problem.query_len.div_ceil(shape.rows());
        let tiles = tiles.next_multiple_of(shape.cubes());
        let query = TiledView::panels(call.query, problem.query_shape(), [shape.rows(), PANEL]);
        let rows = shape.loaded_rows();
        let key = TiledView::panels(call.key, problem.key_shape(), [rows, PANEL]);
        let [batch, len, kv_heads, value_dim] = problem.value_shape();
        let columns = value_dim / shape.value_parts;
        let sizes = [batch, len, kv_heads, shape.value_parts, columns];
        let value = TiledView::panels(call.value, sizes, [rows, shape.value_panel]);
        Ok(Self {
            grid: device.grid([tiles, problem.heads, problem.batch])?,
            query,
            key,
            value,
            lambda: draft.or_unused(call.lambda, 0),
            gamma: draft.or_unused(call.gamma, 1),
            output: call.output,
            saved: draft.or_unused(call.saved, 2),
            lse: draft.or_unused(call.lse, 3),
            band: Band::of(problem),
            numbers: ForwardNumbers::of(problem),
            shape,
            dtype: problem.dtype,
        })
    }
}

/// Bytes of a word, in which outputs are written: two elements.
const WORD: usize = 4;

impl Step for HopperForwardStep {
    fn describe(&self) -> Description {
        let units = self.shape.threads();
        Description::new("attention_forward_hopper", self.dtype, self.grid, units)
            .of(Family::Hopper, self.shape.settings)
            .sharing(self.shape.shared_memory())
            .reading(&[&self.query.view, &self.key.view, &self.value.view])
            .reading(&[&self.lambda, &self.gamma])
            .writing(&[&self.output, &self.saved, &self.lse])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [x, y, z] = self.grid;
        let at = HopperStridesLaunch::new(
            self.lambda.strides(),
            self.output.strides(),
            self.saved.strides(),
            self.lse.strides(),
        );
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_forward_hopper::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.threads() as u32),
                self.shape.words(),
                self.query.argument(bound),
                self.key.argument(bound),
                self.value.argument(bound),
                bound.buffer(&self.lambda),
                bound.buffer(&self.gamma),
                bound.elements(&self.output, WORD),
                bound.elements(&self.saved, WORD),
                bound.buffer(&self.lse),
                at,
                self.band.argument(),
                self.numbers.argument(),
                self.shape,
                self.dtype.elem(),
            );
        }
    }
}
