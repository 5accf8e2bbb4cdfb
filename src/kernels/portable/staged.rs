//! Products whose operand B passes through shared memory in chunks of the head dimension.

use cubecl::prelude::*;

use super::operand::Operand;
use super::stage::{Resident, stage_chunk};
use super::tile::{Tile, place, resident_pitch};
use super::weights::{Term, Weights, add_vector, read_weights};
use crate::math::F4;
use crate::math::dot::dot4;

/// See [`multiply_transposed`](super::product::multiply_transposed).
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
    let (axis, a_maps) = comptime!((operand.axis, a.axis.maps));
    for c in 0..comptime!(tile.chunks(axis.dim4)) {
        let first4 = c * tile.chunk4;
        let width4 = min(tile.chunk4.runtime(), axis.dim4 - first4);
        stage_chunk(b, operand, first4, factor, chunk, tile);
        #[unroll]
        for m in 0..comptime!(a_maps.max(axis.maps)) {
            let maps = comptime!(Maps {
                a: m.min(a_maps - 1),
                b: m.min(axis.maps - 1),
                scores: m,
            });
            multiply_chunk(scores, a, first4, width4, &*chunk, maps, tile);
        }
    }
}

/// The maps of both factors and of their product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Maps {
    a: usize,
    b: usize,
    scores: usize,
}

/// The product's part of the `width4` vectors of A from `first4` on, which a chunk holds of B.
#[cube]
fn multiply_chunk(
    scores: &mut Array<f32>,
    a: &Resident,
    first4: usize,
    width4: usize,
    chunk: &Shared<[F4]>,
    #[comptime] maps: Maps,
    #[comptime] tile: Tile,
) {
    let (x, y) = place(tile);
    let dim4 = comptime!(a.axis.dim4);
    let a_pitch = comptime!(resident_pitch(dim4));
    let pitch = comptime!(tile.chunk_pitch());
    let a_start = comptime!(maps.a * tile.resident_len(dim4)) + first4;
    let b_start = comptime!(maps.b * tile.chunk_len(1)) + x * pitch;
    let a_first = a_start + y * comptime!(tile.rows * a_pitch);
    for c in 0..width4 {
        let mut b = Array::<F4>::new(tile.cols);
        #[unroll]
        for j in 0..tile.cols {
            b[j] = chunk[b_start + c + comptime!(j * tile.units_x * pitch)];
        }
        #[unroll]
        for i in 0..tile.rows {
            let a_row = a.vectors[a_first + i * a_pitch + c];
            #[unroll]
            for j in 0..tile.cols {
                let at = comptime!((maps.scores * tile.rows + i) * tile.cols + j);
                scores[at] = dot4(scores[at], a_row, b[j]);
            }
        }
    }
}

/// See [`accumulate`](super::product::accumulate).
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
    let dim4 = comptime!(operand.axis.dim4);
    let width = comptime!(tile.chunk4 / tile.units_x);
    #[unroll]
    for c in 0..comptime!(tile.chunks(dim4)) {
        let first4 = comptime!(c * tile.chunk4).runtime();
        stage_chunk(b, operand, first4, 1.0, chunk, tile);
        for g in 0..comptime!(tile.tile_cols() / 4) {
            let w = read_weights(weights, g, which, tile);
            #[unroll]
            for e in 0..4usize {
                let term = comptime!(Term {
                    rows: which.count * tile.rows,
                    part: e,
                    sum: which.sum + c * width,
                    owned4: tile.owned4(dim4),
                });
                add_row(sums, &w, &*chunk, g, term, tile);
            }
        }
    }
}

/// Adds one row of B's chunk, times the term's part of each vector of weights, to the chunk's sums.
#[cube]
fn add_row(
    sums: &mut Array<F4>,
    w: &Array<F4>,
    chunk: &Shared<[F4]>,
    g: usize,
    #[comptime] term: Term,
    #[comptime] tile: Tile,
) {
    let (x, _y) = place(tile);
    let column = g % tile.units_x + (g / tile.units_x * 4 + term.part) * tile.units_x;
    let start = column * comptime!(tile.chunk_pitch()) + x;
    #[unroll]
    for k in 0..comptime!(tile.chunk4 / tile.units_x) {
        let value = chunk[start + comptime!(k * tile.units_x)];
        add_vector(sums, w, value, comptime!(term.shifted(k)));
    }
}
