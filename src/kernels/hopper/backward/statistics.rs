//! The statistics of query rows as the gradient kernels read them: those of a row side by side, in base 2, λ among them.

use cubecl::prelude::*;

use crate::kernels::warp::ptx::log2;

/// Turns planes `[planes, rows]` (log-sum-exp of each map, δ of each map, λ) into rows: log-sum-exp of each map in base 2,
/// δ of each map. `log2 |λ|` is taken off the second map's log-sum-exp, whose lowest bit becomes λ's sign. A unit a row.
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_statistics_hopper<N: Size>(
    planes: &[f32],
    packed: &mut [Vector<f32, N>],
    rows: u32,
    #[comptime] maps: usize,
) {
    let row = ABSOLUTE_POS;
    let plane = rows as usize;
    if row < plane {
        let mut out = Vector::<f32, N>::empty();
        let first = planes[row] * comptime!(core::f32::consts::LOG2_E);
        out.insert(0usize, first);
        if comptime!(maps == 2) {
            let lambda = planes[4 * plane + row];
            let second = planes[plane + row] * comptime!(core::f32::consts::LOG2_E);
            out.insert(1usize, with_lambda(second, lambda));
            out.insert(2usize, planes[2 * plane + row]);
            out.insert(3usize, planes[3 * plane + row]);
        } else {
            out.insert(1usize, planes[plane + row]);
        }
        packed[row] = out;
    }
}

/// `lse − log2 |λ|`, infinite where λ is 0.
#[cube]
fn with_lambda(lse: f32, lambda: f32) -> f32 {
    let bits = u32::reinterpret(lse - log2(lambda.abs()));
    let sign = select(lambda < 0.0, 1u32, 0u32);
    f32::reinterpret((bits & 0xFFFF_FFFEu32) | sign)
}
