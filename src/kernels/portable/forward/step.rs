//! The launch of the forward kernel.

use cubecl::prelude::*;

use super::kernel::{ForwardStridesLaunch, attention_forward};
use super::shape::ForwardShape;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::portable::limits::{check_loops, choose};
use crate::kernels::portable::settings::PortableSettings;
use crate::math::mask::Band;
use crate::plan::{Bound, Description, Draft, Family, ForwardCall, Pass, Step, View, vector_width};

#[derive(Debug)]
pub(in crate::kernels::portable) struct ForwardStep {
    settings: PortableSettings,
    grid: [u32; 3],
    width: usize,
    query: View,
    key: View,
    value: View,
    lambda: View,
    gamma: View,
    output: View,
    saved: View,
    lse: View,
    band: Band,
    numbers: ForwardNumbers,
    shape: ForwardShape,
    dtype: DType,
}

impl ForwardStep {
    /// The launch for a call, with the settings asked for or the table's.
    pub(in crate::kernels::portable) fn new(
        call: &ForwardCall,
        device: &Device,
        asked: Option<PortableSettings>,
        draft: &mut Draft,
    ) -> Result<Self> {
        let problem = &call.problem;
        let shape = |tile| ForwardShape {
            gamma: call.gamma.is_some(),
            save_outputs: call.saved.is_some(),
            save_lse: call.lse.is_some(),
            ..ForwardShape::of(problem, tile)
        };
        let memory = |tile| shape(tile).shared_memory();
        let (settings, tile) = choose(Pass::Forward, problem, device, asked, memory)?;
        let shape = shape(tile);
        check_loops(device, problem, tile, problem.key_len, shape.tile_loops())?;
        let tiles = problem.query_len.div_ceil(tile.tile_rows());
        let saved = draft.or_unused(call.saved, 2);
        let stored = [&call.query, &call.key, &call.value, &call.output, &saved];
        Ok(Self {
            settings,
            grid: device.grid([tiles, problem.heads, problem.batch])?,
            width: vector_width(&stored),
            query: call.query,
            key: call.key,
            value: call.value,
            lambda: draft.or_unused(call.lambda, 0),
            gamma: draft.or_unused(call.gamma, 1),
            output: call.output,
            saved,
            lse: draft.or_unused(call.lse, 3),
            band: Band::of(problem),
            numbers: ForwardNumbers::of(problem),
            shape,
            dtype: problem.dtype,
        })
    }
}

impl Step for ForwardStep {
    fn describe(&self) -> Description {
        let units = self.shape.tile.units();
        Description::new("attention_forward", self.dtype, self.grid, units)
            .of(Family::Portable, self.settings)
            .sharing(self.shape.shared_memory())
            .reading(&[&self.query, &self.key, &self.value])
            .reading(&[&self.lambda, &self.gamma])
            .writing(&[&self.output, &self.saved, &self.lse])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [x, y, z] = self.grid;
        let at = ForwardStridesLaunch::new(
            self.query.strides(),
            self.key.strides(),
            self.value.strides(),
            self.lambda.strides(),
            self.output.strides(),
            self.saved.strides(),
            self.lse.strides(),
        );
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_forward::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.tile.units() as u32),
                self.width,
                bound.buffer(&self.query),
                bound.buffer(&self.key),
                bound.buffer(&self.value),
                bound.buffer(&self.lambda),
                bound.buffer(&self.gamma),
                bound.buffer(&self.output),
                bound.buffer(&self.saved),
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
