//! Products of register tiles, fed from shared memory.

use cubecl::prelude::*;

use super::F4;

/// `dot + a · b`.
#[cube]
pub(crate) fn dot4(dot: f32, a: F4, b: F4) -> f32 {
    let mut sum = dot;
    #[unroll]
    for e in 0..4usize {
        sum = fma(a.extract(e), b.extract(e), sum);
    }
    sum
}

/// `n` values `source[start + j · step]` that all units of a plane need alike.
///
/// With `plane = 0` every unit reads them all. Otherwise the plane, of that size, shares the reads: each unit takes
/// every `plane`-th value and broadcasts it, which pays where a read costs as much as a plane of reads (CPU drivers).
#[cube]
pub(crate) fn read_alike(
    source: &Shared<[F4]>,
    start: usize,
    step: usize,
    #[comptime] n: usize,
    #[comptime] plane: usize,
) -> Array<F4> {
    let mut out = Array::<F4>::new(n);
    if comptime!(plane == 0) {
        #[unroll]
        for j in 0..n {
            out[j] = source[start + j * step];
        }
    } else {
        #[unroll]
        for group in 0..comptime!(n.div_ceil(plane)) {
            let left = comptime!((n - group * plane).min(plane));
            let lane = min(UNIT_POS_PLANE as usize, left - 1);
            let mine = source[start + (group * plane + lane) * step];
            #[unroll]
            for j in 0..left {
                out[comptime!(group * plane + j)] = plane_broadcast(mine, comptime!(j as u32));
            }
        }
    }
    out
}
