//! Backward, first pass: the gradient through the norm, the statistics of every query row, and the gradients of λ and γ
//! that follow from them.

pub(crate) mod kernel;
pub(crate) mod planes;
pub(crate) mod shape;
mod step;

use super::settings;
use super::sum::{self, Sum};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::plan::{BackwardCall, Draft, View};
use crate::problem::Problem;
use planes::Planes;
use shape::RowsShape;
use step::StatisticsStep;

/// What the pass leaves for the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowResults {
    /// Gradient of the output before the norm: the caller's, or where there is a norm a part of the workspace.
    pub grad: View,
    /// `[planes, B, H, Nq]`, see [`Planes`].
    pub statistics: View,
}

/// Plans the pass, and the sums that λ's and γ's gradients are.
pub(crate) fn plan(call: &BackwardCall, device: &Device, draft: &mut Draft) -> Result<RowResults> {
    let problem = &call.problem;
    let shape = settings::statistics(problem, call.gamma.is_some(), device);
    check(&shape, device)?;
    let blocks = problem.query_len.div_ceil(shape.rows());
    let grid = device.grid([blocks, problem.heads, problem.batch])?;
    let parts = problem.batch * problem.heads * blocks;
    let step = StatisticsStep::new(call, shape, grid, parts, draft)?;
    let (results, partial) = (step.results(), step.partial);
    draft.push(step);
    if let Some(target) = call.grad_lambda {
        let sum = lambda_sum(problem, results.statistics, target, call.lambda_sizes);
        sum::plan(&sum, device, draft)?;
    }
    if let Some(target) = call.grad_gamma {
        let sum = Sum::of_slices(partial, parts, problem.value_dim, target);
        sum::plan(&sum, device, draft)?;
    }
    Ok(results)
}

fn check(shape: &RowsShape, device: &Device) -> Result<()> {
    device.check("units of a cube", shape.units(), device.units)?;
    let bytes = shape.shared_memory();
    device.check("bytes of shared memory", bytes, device.shared_memory)
}

/// `dλ = −δ_2`, summed over what λ was broadcast along.
fn lambda_sum(problem: &Problem, statistics: View, target: View, kept: [usize; 3]) -> Sum {
    let Problem {
        batch,
        query_len,
        heads,
        ..
    } = *problem;
    let planes = Planes { maps: problem.maps };
    let noise_delta = planes.delta(1) * batch * heads * query_len;
    Sum {
        source: statistics,
        target,
        offset: noise_delta,
        sizes: [batch, query_len, heads],
        strides: [heads * query_len, 1, query_len],
        kept,
        factor: -1.0,
    }
}

/// Room for the statistics.
fn statistics(problem: &Problem, draft: &mut Draft) -> Result<View> {
    let Problem {
        batch,
        query_len,
        heads,
        maps,
        ..
    } = *problem;
    let shape = [Planes { maps }.count(), batch, heads, query_len];
    draft.scratch(DType::F32, &shape)
}
