//! The launch of the forward kernel.

use cubecl::prelude::*;

use super::kernel::{MmaForwardStridesLaunch, attention_forward_mma};
use super::shape::MmaForwardShape;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::mma::feasible::forward_shape;
use crate::kernels::mma::settings::MmaSettings;
use crate::kernels::numbers::ForwardNumbers;
use crate::math::mask::Band;
use crate::plan::{Bound, Description, Draft, Family, ForwardCall, Step, View};

#[derive(Debug)]
pub(in crate::kernels::mma) struct MmaForwardStep {
    grid: [u32; 3],
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
    shape: MmaForwardShape,
    dtype: DType,
}

impl MmaForwardStep {
    /// The launch for a call, with the settings asked for or the table's, or why there is none.
    pub(in crate::kernels::mma) fn new(
        call: &ForwardCall,
        device: &Device,
        asked: Option<MmaSettings>,
        draft: &mut Draft,
    ) -> Result<Self> {
        let shape = forward_shape(call, device, asked)?;
        let problem = &call.problem;
        let tiles = problem.query_len.div_ceil(shape.dims.rows());
        Ok(Self {
            grid: device.grid([tiles, problem.heads, problem.batch])?,
            query: call.query,
            key: call.key,
            value: call.value,
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

impl Step for MmaForwardStep {
    fn describe(&self) -> Description {
        let units = self.shape.dims.threads();
        Description::new("attention_forward_mma", self.dtype, self.grid, units)
            .of(Family::Mma, self.shape.dims.settings)
            .sharing(self.shape.shared_memory())
            .reading(&[&self.query, &self.key, &self.value])
            .reading(&[&self.lambda, &self.gamma])
            .writing(&[&self.output, &self.saved, &self.lse])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [x, y, z] = self.grid;
        let at = MmaForwardStridesLaunch::new(
            self.query.strides(),
            self.key.strides(),
            self.value.strides(),
            self.lambda.strides(),
            self.output.strides(),
            self.saved.strides(),
            self.lse.strides(),
        );
        // SAFETY: the kernel guards every row by the lengths that were compared with the buffers.
        unsafe {
            attention_forward_mma::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.dims.threads() as u32),
                self.shape.writing().words(),
                bound.buffer(&self.query),
                bound.buffer(&self.key),
                bound.buffer(&self.value),
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
