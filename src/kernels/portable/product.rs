//! The two products of a tile: `scores += A Bᵀ` with a resident A, and `sums += W B` with weights W from the scores.
//!
//! B streams. Either its chunks pass through shared memory, or, where the units of a plane share their reads, it comes
//! straight from global memory: no unit then needs another's data, and nothing waits.

use cubecl::prelude::*;

use super::operand::Operand;
use super::stage::Resident;
use super::tile::Tile;
use super::weights::Weights;
use super::{direct, staged};
use crate::math::F4;

/// `scores[m] += A_m (factor · B_m)ᵀ` for every map; where A or B has one map, it serves all of them.
///
/// `scores` is `[maps, rows, cols]` of the unit, its column `j` the tile's column `x + j · units_x`.
#[cube]
pub(crate) fn multiply_transposed<F: Float, N: Size>(
    scores: &mut Array<f32>,
    a: &Resident,
    b: &[Vector<F, N>],
    operand: &Operand,
    factor: f32,
    chunk: &mut Shared<[F4]>,
    #[comptime] tile: Tile,
) {
    if comptime!(tile.is_staged()) {
        staged::multiply_transposed(scores, a, b, operand, factor, chunk, tile);
    } else {
        direct::multiply_transposed(scores, a, b, operand, factor, tile);
    }
}

/// `sums[m] += W_m B` for some weight tiles, all with the same B.
///
/// `sums` is `[maps, rows, owned4]` of the unit.
#[cube]
pub(crate) fn accumulate<F: Float, N: Size>(
    sums: &mut Array<F4>,
    weights: &Shared<[F4]>,
    b: &[Vector<F, N>],
    operand: &Operand,
    chunk: &mut Shared<[F4]>,
    #[comptime] which: Weights,
    #[comptime] tile: Tile,
) {
    if comptime!(tile.is_staged()) {
        staged::accumulate(sums, weights, b, operand, chunk, which, tile);
    } else {
        direct::accumulate(sums, weights, b, operand, which, tile);
    }
}
