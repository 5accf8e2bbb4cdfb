//! The launches of sums.

use cubecl::prelude::*;

use super::Sum;
use super::kernel::{Axes3Launch, SUM_UNITS, sum_long, sum_short};
use crate::dtype::DType;
use crate::plan::{Bound, Description, Step};

/// A cube an output, and a slice of its terms.
#[derive(Debug)]
pub(super) struct Long {
    pub sum: Sum,
    pub grid: [u32; 3],
}

/// A unit an output.
#[derive(Debug)]
pub(super) struct Short {
    pub sum: Sum,
    pub grid: [u32; 3],
}

impl Step for Long {
    fn describe(&self) -> Description {
        let bytes = SUM_UNITS * DType::F32.size();
        describe("sum_long", &self.sum, self.grid).sharing(bytes)
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let ([x, y, z], sum) = (self.grid, &self.sum);
        let (source, target) = (bound.buffer(&sum.source), bound.buffer(&sum.target));
        let kept = axes(&sum.kept, &sum.strides);
        let summed = axes(&sum.summed(), &sum.strides);
        // SAFETY: the axes lie inside the source, and the target holds `slices · outputs` elements.
        unsafe {
            sum_long::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(SUM_UNITS as u32),
                source,
                target,
                sum.offset as u32,
                kept,
                summed,
                sum.terms() as u32,
                sum.factor,
            );
        }
    }
}

impl Step for Short {
    fn describe(&self) -> Description {
        describe("sum_short", &self.sum, self.grid)
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let ([x, y, z], sum) = (self.grid, &self.sum);
        let (source, target) = (bound.buffer(&sum.source), bound.buffer(&sum.target));
        let kept = axes(&sum.kept, &sum.strides);
        let summed = axes(&sum.summed(), &sum.strides);
        // SAFETY: the axes lie inside the source, and the target holds `outputs` elements.
        unsafe {
            sum_short::launch_unchecked(
                client,
                CubeCount::Static(x, y, z),
                CubeDim::new_1d(SUM_UNITS as u32),
                source,
                target,
                sum.offset as u32,
                kept,
                summed,
                sum.outputs() as u32,
                sum.terms() as u32,
                sum.factor,
            );
        }
    }
}

fn describe(kernel: &'static str, sum: &Sum, grid: [u32; 3]) -> Description {
    Description::new(kernel, DType::F32, grid, SUM_UNITS)
        .reading(&[&sum.source])
        .writing(&[&sum.target])
}

/// Axes as a kernel's argument: all lie inside an array that an index of 32 bits reaches.
fn axes(sizes: &[usize; 3], strides: &[usize; 3]) -> Axes3Launch {
    let [size1, size2] = [sizes[1], sizes[2]].map(|n| n as u32);
    let [stride0, stride1, stride2] = strides.map(|n| n as u32);
    Axes3Launch::new(size1, size2, stride0, stride1, stride2)
}
