//! The launch of the row statistics.

use cubecl::prelude::*;

use super::kernel::{RowsNumbersLaunch, RowsStridesLaunch, attention_backward_rows};
use super::shape::RowsShape;
use super::{RowResults, statistics};
use crate::dtype::DType;
use crate::error::Result;
use crate::plan::{BackwardCall, Bound, Description, Draft, Step, View, vector_width};

#[derive(Debug)]
pub(super) struct StatisticsStep {
    grid: [u32; 3],
    width: usize,
    grad_output: View,
    saved: View,
    lambda: View,
    gamma: View,
    lse: View,
    /// Gradient of the output before the norm, if there is one.
    grad: Option<View>,
    /// Where it is written, or what stands for it.
    grad_target: View,
    statistics: View,
    /// Parts of γ's gradient, one a block of rows.
    pub partial: View,
    query_len: u32,
    eps: f32,
    factor: f32,
    shape: RowsShape,
    dtype: DType,
}

impl StatisticsStep {
    /// The launch for a call, with its scratch.
    pub(super) fn new(
        call: &BackwardCall,
        shape: RowsShape,
        grid: [u32; 3],
        parts: usize,
        draft: &mut Draft,
    ) -> Result<Self> {
        let problem = &call.problem;
        let statistics = statistics(problem, draft)?;
        let partial = draft.scratch(DType::F32, &[parts, problem.value_dim])?;
        let [batch, len, heads, dim] = problem.output_shape();
        let grad = match problem.norm {
            Some(_) => Some(draft.scratch_rows(problem.dtype, [batch, len, heads, 1, dim])?),
            None => None,
        };
        let grad_target = draft.or_unused(grad, 2);
        Ok(Self {
            grid,
            width: vector_width(&[&call.grad_output, &call.saved, &grad_target]),
            grad_output: call.grad_output,
            saved: call.saved,
            lambda: draft.or_unused(call.lambda, 0),
            gamma: draft.or_unused(call.gamma, 1),
            lse: call.lse,
            grad,
            grad_target,
            statistics,
            partial,
            query_len: problem.query_len as u32,
            eps: problem.norm.map_or(0.0, |norm| norm.eps),
            factor: problem.norm.map_or(1.0, |norm| norm.factor()),
            shape,
            dtype: problem.dtype,
        })
    }

    /// What later passes read.
    pub(super) fn results(&self) -> RowResults {
        RowResults {
            grad: self.grad.unwrap_or(self.grad_output),
            statistics: self.statistics,
        }
    }
}

impl Step for StatisticsStep {
    fn describe(&self) -> Description {
        let units = self.shape.units();
        Description::new("attention_backward_rows", self.dtype, self.grid, units)
            .sharing(self.shape.shared_memory())
            .reading(&[&self.grad_output, &self.saved, &self.lambda])
            .reading(&[&self.gamma, &self.lse])
            .writing(&[&self.grad_target, &self.statistics, &self.partial])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [x, y, z] = self.grid;
        let at = RowsStridesLaunch::new(
            self.grad_output.strides(),
            self.saved.strides(),
            self.lambda.strides(),
            self.grad_target.strides(),
        );
        let numbers = RowsNumbersLaunch::new(self.query_len, self.eps, self.factor);
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_rows::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(self.shape.units() as u32),
                self.width,
                bound.buffer(&self.grad_output),
                bound.buffer(&self.saved),
                bound.buffer(&self.lambda),
                bound.buffer(&self.gamma),
                bound.buffer(&self.lse),
                bound.buffer(&self.grad_target),
                bound.buffer(&self.statistics),
                bound.buffer(&self.partial),
                at,
                numbers,
                self.shape,
                self.dtype.elem(),
            );
        }
    }
}
