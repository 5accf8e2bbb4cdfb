//! Where a tensor's elements lie, and how four of them travel between memory and `f32` registers.

use cubecl::prelude::*;

use super::F4;

/// Distances in elements between neighbours along each axis of a tensor; the last axis is contiguous.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Strides {
    pub offset: u32,
    pub batch: u32,
    pub seq: u32,
    pub head: u32,
    /// Between the two maps of a query or key, or between the two halves of a value.
    pub pair: u32,
}

#[cube]
impl Strides {
    /// Element where sequence position 0 of one head begins.
    pub fn start(&self, batch: usize, head: usize) -> usize {
        self.offset as usize + batch * self.batch as usize + head * self.head as usize
    }
}

/// Four elements from position `at` on, in `f32`.
#[cube]
pub(crate) fn load4<F: Float, N: Size>(source: &[Vector<F, N>], at: usize) -> F4 {
    let width = N::value();
    if comptime!(width == 4) {
        F4::cast_from(source[at / 4])
    } else {
        let mut out = F4::new(0.0);
        #[unroll]
        for i in 0..4usize {
            let part = source[(at + i) / width];
            out.insert(i, f32::cast_from(part.extract(comptime!(i % width))));
        }
        out
    }
}

/// Writes four `f32` columns from position `at` on.
#[cube]
pub(crate) fn store4<F: Float, N: Size>(target: &mut [Vector<F, N>], at: usize, value: F4) {
    let width = N::value();
    if comptime!(width == 4) {
        target[at / 4] = Vector::cast_from(value);
    } else {
        #[unroll]
        for i in 0..comptime!(4 / width) {
            let mut part = Vector::<F, N>::empty();
            #[unroll]
            for j in 0..width {
                part.insert(j, F::cast_from(value.extract(comptime!(i * width + j))));
            }
            target[at / width + i] = part;
        }
    }
}

/// Vector `column4` of the norm's weight; a column past the end reads the last.
#[cube]
pub(crate) fn gamma4(gamma: &[f32], column4: usize, #[comptime] dim4: usize) -> F4 {
    let at = min(column4, comptime!(dim4 - 1).runtime()) * 4;
    let mut out = F4::new(0.0);
    #[unroll]
    for e in 0..4usize {
        out.insert(e, gamma[at + e]);
    }
    out
}
