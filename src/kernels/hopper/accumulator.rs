//! Which rows of a product of a warpgroup a thread holds: each of four warps has 16, as a fragment.

use cubecl::prelude::*;

/// Rows of a product of one warpgroup.
pub(crate) const ROWS: usize = 64;
/// Threads of a warpgroup.
pub(crate) const THREADS: usize = 128;

/// The thread's upper row.
#[cube]
pub(crate) fn upper_row() -> u32 {
    (UNIT_POS / 32u32) % 4u32 * 16u32 + UNIT_POS % 32u32 / 4u32
}

/// The registers of a product that are used.
#[cube]
pub(crate) fn elements<N: Size>(product: Vector<f32, N>, #[comptime] count: usize) -> Array<f32> {
    elements_from::<N>(product, 0usize, count)
}

/// The registers of one of several results that lie side by side, from register `first` on.
#[cube]
pub(crate) fn elements_from<N: Size>(
    product: Vector<f32, N>,
    #[comptime] first: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        out[i] = product.extract(comptime!(first + i));
    }
    out
}
