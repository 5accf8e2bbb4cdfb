//! Forward: a tile of queries walks the key tiles once, with one online softmax for each map.

use cubecl::prelude::*;

use super::epilogue::{Ending, combine, normalize, store};
use super::shape::ForwardShape;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::portable::operand::{Axis, Operand};
use crate::kernels::portable::product::{accumulate, multiply_transposed};
use crate::kernels::portable::stage::{Resident, stage_resident};
use crate::kernels::portable::unit::{Masking, RowsAre, filled, mask, zeros};
use crate::kernels::portable::weights::{Weights, write_maps};
use crate::kernels::work::{Order, Sequence, Work};
use crate::math::F4;
use crate::math::layout::Strides;
use crate::math::mask::Band;
use crate::math::softmax::Softmax;

/// Where the forward's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct ForwardStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    pub lambda: Strides,
    pub output: Strides,
    /// `[B, Nq, H, maps, dv]`: O and O_2.
    pub saved: Strides,
    /// `[B, H, maps, Nq]`.
    pub lse: Strides,
}

/// Grid: (query tiles, query heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_forward<F: Float, N: Size>(
    query: &[Vector<F, N>],
    key: &[Vector<F, N>],
    value: &[Vector<F, N>],
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<F, N>],
    saved: &mut [Vector<F, N>],
    lse: &mut [f32],
    at: ForwardStrides,
    band: Band,
    numbers: ForwardNumbers,
    #[comptime] shape: ForwardShape,
    #[define(F)] _dtype: ElemType,
) {
    let tile = comptime!(shape.tile);
    let work = Work::decode_queries(numbers.group, tile.tile_rows(), Order::LastToFirst);
    let sequence = Sequence::dense(work.batch, band);
    let mut memory = Memory::new(shape);

    let query_axis = comptime!(Axis::maps(shape.head_dim4, shape.maps));
    let queries = Operand::of(
        &at.query,
        &sequence.queries,
        work.head,
        work.first_row,
        query_axis,
    );
    stage_resident(query, &queries, numbers.scale, &mut memory.queries, tile);

    let mut walked = walk(key, value, &at, &work, &sequence, &mut memory, shape);

    let ending = Ending::new(at, numbers, &work, sequence, tile);
    combine(&ending, &mut walked, lambda, saved, lse, shape);
    if comptime!(shape.norm) {
        normalize(&ending, &mut walked.sums, gamma, &mut memory.scratch, shape);
    }
    store(&ending, output, &walked.sums, shape);
}

/// The kernel's shared memory.
#[derive(CubeType)]
struct Memory {
    queries: Resident,
    chunk: Shared<[F4]>,
    weights: Shared<[F4]>,
    scratch: Shared<[f32]>,
}

#[cube]
impl Memory {
    fn new(#[comptime] shape: ForwardShape) -> Memory {
        let (tile, maps) = comptime!((shape.tile, shape.maps));
        let queries = Resident::new(comptime!(Axis::maps(shape.head_dim4, maps)), tile);
        let chunk = Shared::<[F4]>::new_slice(comptime!(tile.chunk_len(shape.key_maps)));
        let weights = Shared::<[F4]>::new_slice(comptime!(maps * tile.weight_len()));
        let scratch = Shared::<[f32]>::new_slice(comptime!(tile.scratch_len(maps * tile.rows)));
        Memory {
            queries,
            chunk,
            weights,
            scratch,
        }
    }
}

/// What a walk over keys leaves in a unit.
#[derive(CubeType)]
pub(super) struct Walked {
    /// `[maps, rows, owned4]`: values, weighted by exponentials.
    pub sums: Array<F4>,
    /// Maxima and sums of those exponentials.
    pub softmax: Softmax,
}

/// Walks all keys that the tile's queries see.
#[cube]
fn walk<F: Float, N: Size>(
    key: &[Vector<F, N>],
    value: &[Vector<F, N>],
    at: &ForwardStrides,
    work: &Work,
    sequence: &Sequence,
    memory: &mut Memory,
    #[comptime] shape: ForwardShape,
) -> Walked {
    let (tile, maps) = comptime!((shape.tile, shape.maps));
    let owned4 = comptime!(tile.owned4(shape.value_dim4));
    let key_axis = comptime!(Axis::maps(shape.head_dim4, shape.key_maps));
    let value_axis = comptime!(Axis::halves(shape.value_dim4));
    let masking = comptime!(Masking {
        rows_are: RowsAre::Queries,
        maps,
        sides: shape.sides,
    });
    let all_maps = comptime!(Weights {
        index: 0,
        count: maps,
        sum: 0,
    });

    let mut softmax = Softmax::new(comptime!(shape.softmax()));
    let mut sums = zeros(comptime!(maps * tile.rows * owned4));
    let bounds = sequence.keys_seen(work.first_row, tile.tile_rows(), shape.sides);
    let mut first = bounds.start as usize;
    while first < bounds.end as usize {
        let keys = Operand::of(&at.key, &sequence.keys, work.kv_head, first, key_axis);
        let values = Operand::of(&at.value, &sequence.keys, work.kv_head, first, value_axis);
        let mut scores = filled(0.0, comptime!(maps * tile.rows * tile.cols));
        multiply_transposed(
            &mut scores,
            &memory.queries,
            key,
            &keys,
            1.0,
            &mut memory.chunk,
            tile,
        );
        if bounds.has_edge(first as i32, tile.tile_cols()) {
            mask(
                &mut scores,
                &sequence.band,
                work.first_row,
                first,
                masking,
                tile,
            );
        }
        let decay = softmax.update(&mut scores, &mut memory.scratch, comptime!(shape.softmax()));
        rescale(&mut sums, &decay, comptime!(maps * tile.rows), owned4);
        write_maps(&mut memory.weights, &scores, 0usize, maps, tile);
        accumulate(
            &mut sums,
            &memory.weights,
            value,
            &values,
            &mut memory.chunk,
            all_maps,
            tile,
        );
        first += tile.tile_cols();
    }
    softmax.finish(&mut memory.scratch, comptime!(shape.softmax()));
    Walked { sums, softmax }
}

/// Brings the sums of `rows` rows to new maxima.
#[cube]
fn rescale(
    sums: &mut Array<F4>,
    decay: &Array<f32>,
    #[comptime] rows: usize,
    #[comptime] owned4: usize,
) {
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for c in 0..owned4 {
            sums[comptime!(r * owned4 + c)] *= F4::new(decay[r]);
        }
    }
}
