//! Sums over some axes of a three-axis `f32` array, always in the same order, so that results repeat bit for bit.

use cubecl::prelude::*;

use crate::math::reduce::{Exchange, Op, reduce_rows};

/// Units of a cube.
pub(crate) const SUM_UNITS: usize = 64;

/// Sizes and strides of three axes; a row-major index over the sizes gives an element.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Axes3 {
    pub size1: u32,
    pub size2: u32,
    pub stride0: u32,
    pub stride1: u32,
    pub stride2: u32,
}

#[cube]
impl Axes3 {
    fn at(&self, index: usize) -> usize {
        let size1 = self.size1 as usize;
        let size2 = self.size2 as usize;
        let index2 = index % size2;
        let index1 = index / size2 % size1;
        let index0 = index / size2 / size1;
        index0 * self.stride0 as usize
            + index1 * self.stride1 as usize
            + index2 * self.stride2 as usize
    }
}

/// Output `o` of slice `s` is `factor · Σ source[offset + kept(o) + summed(i)]` over the slice's part of
/// `0..terms`, at `target[s · outputs + o]`. A cube works on one output; for long sums.
///
/// Grid: (outputs, slices).
#[cube(launch_unchecked)]
pub(crate) fn sum_long(
    source: &[f32],
    target: &mut [f32],
    offset: u32,
    kept: Axes3,
    summed: Axes3,
    terms: u32,
    factor: f32,
) {
    let terms = terms as usize;
    let output = CUBE_POS_X as usize;
    let length = terms.div_ceil(CUBE_COUNT_Y as usize);
    let first = CUBE_POS_Y as usize * length;
    let start = offset as usize + kept.at(output);
    let mut scratch = Shared::<[f32]>::new_slice(SUM_UNITS);
    let mut sum = Array::<f32>::new(1usize);
    sum[0] = 0.0f32.runtime();
    for i in range_stepped(
        first + UNIT_POS as usize,
        min(first + length, terms),
        SUM_UNITS,
    ) {
        sum[0] += source[start + summed.at(i)];
    }
    reduce_rows(
        &mut sum,
        &mut scratch,
        1usize,
        SUM_UNITS,
        Exchange::Shared,
        Op::Sum,
    );
    if UNIT_POS == 0 {
        target[CUBE_POS_Y as usize * CUBE_COUNT_X as usize + output] = sum[0] * factor;
    }
}

/// As [`sum_long`] with one slice, a unit an output; for many short sums.
///
/// Grid: any number of cubes.
#[cube(launch_unchecked)]
pub(crate) fn sum_short(
    source: &[f32],
    target: &mut [f32],
    offset: u32,
    kept: Axes3,
    summed: Axes3,
    outputs: u32,
    terms: u32,
    factor: f32,
) {
    let units = CUBE_COUNT_X as usize * SUM_UNITS;
    for output in range_stepped(ABSOLUTE_POS, outputs as usize, units) {
        let start = offset as usize + kept.at(output);
        let mut sum = 0.0f32.runtime();
        for i in 0..terms as usize {
            sum += source[start + summed.at(i)];
        }
        target[output] = sum * factor;
    }
}
