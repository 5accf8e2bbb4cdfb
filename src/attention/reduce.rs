//! Sums over axes of an `f32` array, for the gradients of what was broadcast.

use cubecl::prelude::*;

use super::launch::{buffer, check_launch};
use crate::error::Result;
use crate::kernels::passes::sum::kernel::{Axes3Launch, SUM_UNITS, sum_long, sum_short};
use crate::tensor::{DType, Tensor};
use crate::tuning::Limits;

/// Sums from which on a cube works on one output.
const LONG: usize = 32;
/// Terms that a cube of a long sum takes before another slice is worth its second launch.
const SLICE: usize = 4096;

/// A sum over some of three axes of an array, times `factor`.
pub(super) struct Sum {
    /// First element.
    pub offset: usize,
    pub sizes: [usize; 3],
    pub strides: [usize; 3],
    /// Sizes of the result: an axis's own, or 1 where it is summed over.
    pub kept: [usize; 3],
    pub factor: f32,
}

impl Sum {
    fn summed(&self) -> [usize; 3] {
        core::array::from_fn(|i| self.sizes[i] / self.kept[i])
    }
}

/// Writes the sums, row-major over the kept axes, to `target`.
pub(super) fn sum(
    client: &Client,
    limits: &Limits,
    problem: &Sum,
    source: &Tensor,
    target: &Tensor,
) -> Result<()> {
    let outputs: usize = problem.kept.iter().product();
    let terms: usize = problem.summed().iter().product();
    if terms < LONG || outputs > limits.cubes[0] {
        launch_short(client, limits, problem, source, target)?;
        return check_launch(client, "sum", target);
    }
    let slices = terms.div_ceil(SLICE).min(limits.cubes[1]);
    if slices == 1 {
        launch_long(client, limits, problem, source, target, 1)?;
        return check_launch(client, "sum", target);
    }
    let partial = Tensor::empty(client, DType::F32, &[slices, outputs]);
    launch_long(client, limits, problem, source, &partial, slices)?;
    let rest = Sum {
        offset: 0,
        sizes: [1, slices, outputs],
        strides: [0, outputs, 1],
        kept: [1, 1, outputs],
        factor: 1.0,
    };
    sum(client, limits, &rest, &partial, target)
}

fn launch_long(
    client: &Client,
    limits: &Limits,
    problem: &Sum,
    source: &Tensor,
    target: &Tensor,
    slices: usize,
) -> Result<()> {
    let outputs: usize = problem.kept.iter().product();
    let terms: usize = problem.summed().iter().product();
    let grid = limits.grid([outputs, slices, 1])?;
    // SAFETY: the axes lie inside `source`, and `target` holds `slices · outputs` elements.
    unsafe {
        sum_long::launch_unchecked(
            client,
            grid,
            CubeDim::new_1d(SUM_UNITS as u32),
            buffer(source),
            buffer(target),
            problem.offset as u32,
            axes(&problem.kept, &problem.strides),
            axes(&problem.summed(), &problem.strides),
            terms as u32,
            problem.factor,
        );
    }
    Ok(())
}

fn launch_short(
    client: &Client,
    limits: &Limits,
    problem: &Sum,
    source: &Tensor,
    target: &Tensor,
) -> Result<()> {
    let outputs: usize = problem.kept.iter().product();
    let terms: usize = problem.summed().iter().product();
    let cubes = outputs.div_ceil(SUM_UNITS).min(limits.cubes[0]);
    let grid = limits.grid([cubes, 1, 1])?;
    // SAFETY: the axes lie inside `source`, and `target` holds `outputs` elements.
    unsafe {
        sum_short::launch_unchecked(
            client,
            grid,
            CubeDim::new_1d(SUM_UNITS as u32),
            buffer(source),
            buffer(target),
            problem.offset as u32,
            axes(&problem.kept, &problem.strides),
            axes(&problem.summed(), &problem.strides),
            outputs as u32,
            terms as u32,
            problem.factor,
        );
    }
    Ok(())
}

fn axes(sizes: &[usize; 3], strides: &[usize; 3]) -> Axes3Launch {
    let [size1, size2] = [sizes[1], sizes[2]].map(|n| n as u32);
    let [stride0, stride1, stride2] = strides.map(|n| n as u32);
    Axes3Launch::new(size1, size2, stride0, stride1, stride2)
}
