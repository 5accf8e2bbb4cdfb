//! The statistics of query rows as the gradient kernels read them: those of a row side by side, in base 2, λ among them.

use cubecl::prelude::*;

use crate::kernels::passes::statistics::planes::Planes;
use crate::kernels::warp::ptx::log2;
use crate::math::softmax::UNSEEN;

/// Turns planes `[planes, lines, len]` (log-sum-exp of each map, δ of each map, λ) into rows `[lines, padded]`: log-sum-exp of
/// each map in base 2, δ of each map. `log2 |λ|` is taken off the second map's log-sum-exp, whose lowest bit becomes λ's
/// sign. Past the end of a line no key is seen. A unit a row.
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_statistics_hopper<N: Size>(
    planes: &[f32],
    packed: &mut [Vector<f32, N>],
    lines: u32,
    len: u32,
    padded: u32,
    #[comptime] maps: usize,
) {
    let of = comptime!(Planes { maps });
    let at = ABSOLUTE_POS as u32;
    if at < lines * padded {
        let row = at % padded;
        let source = (at / padded * len + min(row, len - 1u32)) as usize;
        let plane = (lines * len) as usize;
        let real = row < len;
        let mut out = Vector::<f32, N>::empty();
        let first =
            planes[comptime!(of.lse(0)) * plane + source] * comptime!(core::f32::consts::LOG2_E);
        out.insert(0usize, select(real, first, UNSEEN.runtime()));
        if comptime!(maps == 2) {
            let lambda = planes[comptime!(of.lambda()) * plane + source];
            let second = planes[comptime!(of.lse(1)) * plane + source]
                * comptime!(core::f32::consts::LOG2_E);
            let second = with_lambda(second, lambda);
            out.insert(1usize, select(real, second, UNSEEN.runtime()));
            out.insert(2usize, planes[comptime!(of.delta(0)) * plane + source]);
            out.insert(3usize, planes[comptime!(of.delta(1)) * plane + source]);
        } else {
            out.insert(1usize, planes[comptime!(of.delta(0)) * plane + source]);
        }
        packed[at as usize] = out;
    }
}

/// `lse − log2 |λ|`, infinite where λ is 0 or as good as that: then the sign is none, as infinity's bits are no number's.
#[cube]
fn with_lambda(lse: f32, lambda: f32) -> f32 {
    let bits = u32::reinterpret(lse - log2(lambda.abs()));
    let sign = select(lambda <= comptime!(-f32::MIN_POSITIVE), 1u32, 0u32);
    f32::reinterpret((bits & 0xFFFF_FFFEu32) | sign)
}
