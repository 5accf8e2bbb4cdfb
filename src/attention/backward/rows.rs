//! First pass: the gradient through the norm, the statistics of every row, and the gradients of λ and γ from them.

use cubecl::prelude::*;

use super::{Call, OutputGradient};
use crate::attention::axes::AxisStrides;
use crate::attention::launch::{buffer, check_launch, optional, strides, vector_width};
use crate::attention::reduce::{Sum, sum};
use crate::attention::saved::Saved;
use crate::error::Result;
use crate::kernels::passes::statistics::kernel::{
    RowsNumbersLaunch, RowsStridesLaunch, attention_backward_rows,
};
use crate::kernels::passes::statistics::shape::{RowsShape, statistic_planes};
use crate::math::reduce::Exchange;
use crate::problem::Problem;
use crate::tensor::{DType, Tensor};

/// What the first pass leaves for the others.
pub(super) struct RowResults {
    /// Gradient of the output before the norm.
    pub grad: OutputGradient,
    /// [`statistic_planes`] numbers a row, `[planes, B, H, Nq]`.
    pub statistics: Tensor,
}

impl Call<'_> {
    /// Runs the pass.
    pub(super) fn rows(&self, saved: &Saved, incoming: OutputGradient) -> Result<RowResults> {
        let Problem {
            batch,
            query_len,
            heads,
            maps,
            value_dim,
            ..
        } = self.checked.problem;
        let shape = self.rows_shape();
        self.check_rows(&shape)?;
        let blocks = query_len.div_ceil(shape.rows());
        let empty = |shape: &[usize]| Tensor::empty(self.client, DType::F32, shape);
        let statistics = empty(&[statistic_planes(maps), batch, heads, query_len]);
        let partial = empty(&[batch * heads * blocks, value_dim]);
        let through_norm = self.through_norm();
        let written = Written {
            grad: through_norm.as_ref(),
            statistics: &statistics,
            partial: &partial,
        };
        self.launch_rows(shape, saved, &incoming, &written)?;
        self.lambda(&statistics)?;
        self.gamma(&partial)?;
        Ok(RowResults {
            grad: through_norm.unwrap_or(incoming),
            statistics,
        })
    }

    /// Room for the gradient before the norm, where there is one.
    fn through_norm(&self) -> Option<OutputGradient> {
        let problem = &self.checked.problem;
        problem.norm?;
        let shape = problem.output_shape();
        let [_, len, heads, dim] = shape;
        Some(OutputGradient {
            tensor: Tensor::empty(self.client, problem.dtype, &shape),
            axes: AxisStrides::row_major(len, heads, 1, dim),
        })
    }

    fn check_rows(&self, shape: &RowsShape) -> Result<()> {
        let limits = &self.limits;
        limits.check("units of a cube", shape.units(), limits.units)?;
        limits.check(
            "bytes of shared memory",
            shape.shared_memory(),
            limits.shared_memory,
        )
    }

    fn launch_rows(
        &self,
        shape: RowsShape,
        saved: &Saved,
        incoming: &OutputGradient,
        written: &Written<'_>,
    ) -> Result<()> {
        let problem = &self.checked.problem;
        let norm = problem.norm;
        let blocks = problem.query_len.div_ceil(shape.rows());
        let grid = self.limits.grid([blocks, problem.heads, problem.batch])?;
        let saved_axes = saved.axes()?.strides;
        let grad_axes = written
            .grad
            .map_or(AxisStrides::default(), |grad| grad.axes);
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_rows::launch_unchecked(
                self.client,
                grid,
                CubeDim::new_1d(shape.units() as u32),
                vector_width(&[&incoming.axes, &saved_axes, &grad_axes]),
                buffer(&incoming.tensor),
                buffer(&saved.outputs),
                optional(self.client, self.inputs.lambda.as_ref()),
                optional(self.client, self.inputs.gamma.as_ref()),
                buffer(&saved.lse),
                optional(self.client, written.grad.map(|grad| &grad.tensor)),
                buffer(written.statistics),
                buffer(written.partial),
                RowsStridesLaunch::new(
                    strides(&incoming.axes),
                    strides(&saved_axes),
                    strides(&self.checked.lambda),
                    strides(&grad_axes),
                ),
                RowsNumbersLaunch::new(
                    problem.query_len as u32,
                    norm.map_or(0.0, |norm| norm.eps),
                    norm.map_or(1.0, |norm| norm.factor()),
                ),
                shape,
                problem.dtype.elem(),
            );
        }
        check_launch(self.client, "backward, rows", written.statistics)
    }

    fn rows_shape(&self) -> RowsShape {
        let problem = &self.checked.problem;
        // More columns a unit than 32 would not fit its registers.
        let units_x = if problem.value_dim > 128 { 8 } else { 4 };
        let shuffles = self.limits.planes && self.limits.plane_min >= units_x;
        RowsShape {
            units_x,
            units_y: 64 / units_x,
            steps: 2,
            value_dim4: problem.value_dim / 4,
            maps: problem.maps,
            norm: problem.norm.is_some(),
            gamma: self.inputs.gamma.is_some(),
            exchange: if shuffles {
                Exchange::Plane
            } else {
                Exchange::Shared
            },
        }
    }

    /// `dλ = −δ_2`, summed over what λ was broadcast along.
    fn lambda(&self, statistics: &Tensor) -> Result<()> {
        let (Some(lambda), Some(grad)) = (&self.inputs.lambda, &self.gradients.lambda) else {
            return Ok(());
        };
        let Problem {
            batch,
            query_len,
            heads,
            ..
        } = self.checked.problem;
        let mut kept = [1; 3];
        let skipped = 3 - lambda.shape().len();
        kept[skipped..].copy_from_slice(lambda.shape());
        let noise_delta = 3 * batch * heads * query_len;
        let problem = Sum {
            offset: noise_delta,
            sizes: [batch, query_len, heads],
            strides: [heads * query_len, 1, query_len],
            kept,
            factor: -1.0,
        };
        sum(self.client, &self.limits, &problem, statistics, grad)
    }

    /// Sums the parts of the weight's gradient over blocks of rows.
    fn gamma(&self, partial: &Tensor) -> Result<()> {
        let Some(grad) = &self.gradients.gamma else {
            return Ok(());
        };
        let (parts, dim) = (partial.shape()[0], partial.shape()[1]);
        let problem = Sum {
            offset: 0,
            sizes: [1, parts, dim],
            strides: [0, dim, 1],
            kept: [1, 1, dim],
            factor: 1.0,
        };
        sum(self.client, &self.limits, &problem, partial, grad)
    }
}

/// What the kernel writes.
struct Written<'a> {
    grad: Option<&'a OutputGradient>,
    statistics: &'a Tensor,
    /// Parts of the weight's gradient, one a block of rows.
    partial: &'a Tensor,
}
