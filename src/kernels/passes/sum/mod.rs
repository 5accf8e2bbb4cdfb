//! Sums over some axes of an `f32` array, for the gradients of what was broadcast.

pub(crate) mod kernel;
mod step;

use super::settings::{LONG_SUM, SLICE};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::plan::{Draft, View};
use kernel::SUM_UNITS;
use step::{Long, Short};

/// A sum over some of three axes of an array, times `factor`, row-major over the kept axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    pub source: View,
    pub target: View,
    /// First element of the source.
    pub offset: usize,
    pub sizes: [usize; 3],
    pub strides: [usize; 3],
    /// Sizes of the result: an axis's own, or 1 where it is summed over.
    pub kept: [usize; 3],
    pub factor: f32,
}

impl Sum {
    /// The sum of `slices` row-major slices of `len` elements.
    pub(crate) fn of_slices(source: View, slices: usize, len: usize, target: View) -> Self {
        Self {
            source,
            target,
            offset: 0,
            sizes: [1, slices, len],
            strides: [0, len, 1],
            kept: [1, 1, len],
            factor: 1.0,
        }
    }

    /// Sizes of what is summed over.
    fn summed(&self) -> [usize; 3] {
        core::array::from_fn(|i| self.sizes[i] / self.kept[i])
    }

    fn outputs(&self) -> usize {
        self.kept.iter().product()
    }

    fn terms(&self) -> usize {
        self.summed().iter().product()
    }
}

/// Plans a sum: a unit an output for short ones, a cube an output for long ones, and for very long ones slices first.
pub(crate) fn plan(sum: &Sum, device: &Device, draft: &mut Draft) -> Result<()> {
    let (outputs, terms) = (sum.outputs(), sum.terms());
    if terms < LONG_SUM || outputs > device.cubes[0] {
        let cubes = outputs.div_ceil(SUM_UNITS).min(device.cubes[0]);
        let grid = device.grid([cubes, 1, 1])?;
        draft.push(Short { sum: *sum, grid });
        return Ok(());
    }
    let slices = terms.div_ceil(SLICE).min(device.cubes[1]);
    let grid = device.grid([outputs, slices, 1])?;
    if slices == 1 {
        draft.push(Long { sum: *sum, grid });
        return Ok(());
    }
    let target = draft.scratch(DType::F32, &[slices, outputs])?;
    let sum_of_slices = Sum { target, ..*sum };
    draft.push(Long {
        sum: sum_of_slices,
        grid,
    });
    plan(
        &Sum::of_slices(target, slices, outputs, sum.target),
        device,
        draft,
    )
}
