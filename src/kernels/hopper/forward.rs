//! Forward: a tile of queries walks the key tiles once. One warpgroup loads, the others compute; with two maps, one
//! computes each map over the same values.
//!
//! A computing warpgroup holds the scores S and the sums O of its 64 rows in registers, and never lets the tensor cores
//! wait for a softmax: while `S(t)`'s exponentials are computed, they multiply `P(t − 1) V(t − 1)`.
//!
//! ```text
//! S(0) = Q K(0)ᵀ                      P(0) = softmax(S(0))
//! for t in 1..:
//!     begin S(t) = Q K(t)ᵀ
//!     begin O = decay · O + P(t−1) V(t−1)
//!     await S(t)                      P(t) = softmax(S(t))     while O is computed
//!     await O
//! O = decay · O + P(last) V(last)
//! ```

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::{generic_to_shared, tensor_map_address};

use super::epilogue::{Gain, HopperStrides, Line, finish, write_lse};
use super::fragment::{ROWS, THREADS, upper_row};
use super::producer::{Sources, Work, produce};
use super::ptx::{
    UNIT, accumulate, barrier_init, barrier_init_fence, barrier_wait, cluster_arrive, cluster_wait,
    descriptor_columns, descriptor_rows, multiply, scale_rows, set_registers, uniform, wait,
    wait_after,
};
use super::ring::Ring;
use super::shape::HopperShape;
use super::softmax::{Softmax, Visible, weights};
use super::turns::Turns;
use crate::kernels::portable::forward::ForwardNumbers;
use crate::math::mask::{Band, Bounds};

/// Grid: (query tiles, query heads, batch). `query`, `key` and `value` are tensor maps of rank 5 over batch, row, head,
/// pair, column; positions past the end of a sequence read as zero.
#[cube(launch_unchecked, cluster_dim = CubeDim::new_1d(shape.cubes() as u32))]
pub(crate) fn attention_forward_hopper<F: Float, W: Size>(
    query: &TensorMap<F, Tiled>,
    key: &TensorMap<F, Tiled>,
    value: &TensorMap<F, Tiled>,
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<u32, W>],
    saved: &mut [Vector<u32, W>],
    lse: &mut [f32],
    at: HopperStrides,
    band: Band,
    numbers: ForwardNumbers,
    #[comptime] shape: HopperShape,
    #[define(F)] _dtype: ElemType,
) {
    let tiles = Shared::<[u32]>::new_aligned_slice(comptime!(shape.data_bytes() / 4), 1024usize);
    let counters = Shared::<[u64]>::new_aligned_slice(comptime!(shape.barriers()), 8usize);
    let memory = generic_to_shared::<u32>(unsafe { tiles.as_ptr_unchecked() });
    let barriers = generic_to_shared::<u64>(unsafe { counters.as_ptr_unchecked() });
    if UNIT_POS == 0 {
        init_barriers(barriers, shape);
    }
    if comptime!(shape.cubes() > 1) {
        cluster_arrive();
        cluster_wait();
    } else {
        sync_cube();
    }

    let cubes = comptime!(shape.cubes() as u32);
    let cluster = reversed(CUBE_POS_X / cubes, CUBE_COUNT_X / cubes);
    let rank = CUBE_POS_X % cubes;
    let first = (cluster * cubes * comptime!(shape.rows() as u32)) as i32;
    let last = min(
        first + comptime!((shape.cubes() * shape.rows()) as i32),
        band.query_len,
    ) - 1;
    let bounds = band.keys(first, last, shape.sides);
    let work = Work {
        batch: CUBE_POS_Z as i32,
        head: CUBE_POS_Y as i32,
        kv_head: (CUBE_POS_Y / numbers.group) as i32,
        first_query: first + (rank * comptime!(shape.rows() as u32)) as i32,
        first_key: bounds.start,
        tiles: key_tiles(&bounds, shape),
        rank,
    };
    let warpgroup = uniform(UNIT_POS / comptime!(THREADS as u32));
    if warpgroup == 0u32 {
        set_registers(false, comptime!(shape.settings.producer_registers() as u32));
        if UNIT_POS == 0 && work.tiles > 0u32 {
            let sources = Sources {
                query: tensor_map_address(query),
                key: tensor_map_address(key),
                value: tensor_map_address(value),
            };
            produce(&sources, &work, memory, barriers, shape);
        }
    } else {
        set_registers(true, comptime!(shape.settings.consumer_registers() as u32));
        consume::<W>(
            lambda,
            gamma,
            output,
            saved,
            lse,
            &at,
            &band,
            &numbers,
            &work,
            memory,
            barriers,
            warpgroup - 1u32,
            shape,
        );
    }
}

/// In descending order: under a causal mask the last queries work longest, so they start first.
#[cube]
fn reversed(position: u32, count: u32) -> u32 {
    count - 1u32 - position
}

#[cube]
fn init_barriers(barriers: u32, #[comptime] shape: HopperShape) {
    #[unroll]
    for map in 0..shape.maps {
        barrier_init(barriers + comptime!(shape.query_full(map) as u32), 1u32);
    }
    #[unroll]
    for stage in 0..comptime!(shape.key_maps * shape.settings.key_stages) {
        let at = barriers + comptime!(8 * stage as u32);
        barrier_init(at + comptime!(shape.key_full(0) as u32), 1u32);
        barrier_init(
            at + comptime!(shape.key_empty(0) as u32),
            comptime!(shape.key_readers() as u32),
        );
    }
    #[unroll]
    for stage in 0..comptime!(shape.settings.value_stages) {
        let at = barriers + comptime!(8 * stage as u32);
        barrier_init(at + comptime!(shape.value_full() as u32), 1u32);
        barrier_init(
            at + comptime!(shape.value_empty() as u32),
            comptime!(shape.value_readers() as u32),
        );
    }
    barrier_init_fence();
}

#[cube]
fn key_tiles(bounds: &Bounds, #[comptime] shape: HopperShape) -> u32 {
    let keys = max(bounds.end - bounds.start, 0) as u32;
    (keys + comptime!(shape.settings.keys as u32 - 1)) / comptime!(shape.settings.keys as u32)
}

/// One computing warpgroup, from its first tile to its outputs.
#[cube]
fn consume<W: Size>(
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<u32, W>],
    saved: &mut [Vector<u32, W>],
    lse: &mut [f32],
    at: &HopperStrides,
    band: &Band,
    numbers: &ForwardNumbers,
    work: &Work,
    memory: u32,
    barriers: u32,
    group: u32,
    #[comptime] shape: HopperShape,
) {
    let size!(S) = comptime!(shape.scores().vector());
    let size!(O) = comptime!(shape.outputs().vector());
    let size!(P) = comptime!(shape.outputs().left_vector());
    let map = if comptime!(shape.maps == 2) {
        group
    } else {
        0u32.runtime()
    };
    let first = if comptime!(shape.maps == 2) {
        work.first_query
    } else {
        work.first_query + (group * comptime!(ROWS as u32)) as i32
    };
    let row = first + upper_row() as i32;
    let last = min(first + comptime!(ROWS as i32), band.query_len) - 1;
    let visible = Visible::new(band, first, last, row, shape.sides);
    let scale = numbers.scale * comptime!(core::f32::consts::LOG2_E);
    let mut softmax = Softmax::new();
    let sums = walk::<S, O, P>(
        &mut softmax,
        &visible,
        work,
        memory,
        barriers,
        group,
        scale,
        shape,
    );
    if comptime!(shape.cubes() > 1) {
        cluster_arrive();
    }
    softmax.finish();
    let line = Line {
        batch: CUBE_POS_Z,
        head: CUBE_POS_Y,
        row: row as u32,
        query_len: band.query_len as u32,
    };
    let gain = Gain {
        eps: numbers.eps,
        factor: numbers.factor,
    };
    if comptime!(shape.save_lse) {
        write_lse(lse, &softmax, &at.lse, &line, map, scale, numbers.unseen);
    }
    // Registers have numbers, not indices: the columns that are kept must be known when the code is made.
    if map == 0u32 {
        finish::<O, W>(
            sums, &softmax, lambda, gamma, output, saved, at, &line, &gain, memory, 0usize, shape,
        );
    } else if comptime!(shape.maps == 2) {
        finish::<O, W>(
            sums, &softmax, lambda, gamma, output, saved, at, &line, &gain, memory, 1usize, shape,
        );
    }
    if comptime!(shape.cubes() > 1) {
        // The other cubes report here what they have read; nobody may find this cube gone.
        cluster_wait();
    }
}

/// The sums of exponentials times values over all tiles of keys.
#[cube]
fn walk<S: Size, O: Size, P: Size>(
    softmax: &mut Softmax,
    visible: &Visible,
    work: &Work,
    memory: u32,
    barriers: u32,
    group: u32,
    scale: f32,
    #[comptime] shape: HopperShape,
) -> Vector<f32, O> {
    let scores = comptime!(shape.scores());
    let outputs = comptime!(shape.outputs());
    let keys_a_tile = comptime!(shape.settings.keys as u32);
    let cubes = comptime!(shape.cubes());
    let groups = comptime!(shape.settings.consumers);
    let take_turns = comptime!(shape.settings.turns);
    let count = comptime!(scores.registers());
    let sides = comptime!(shape.sides);
    let half = comptime!(shape.half);
    let query_panel = comptime!(shape.query_panel());
    let key_panel = comptime!(shape.key_panel());
    let key_step = comptime!((shape.key_bytes() / UNIT) as u64);
    let value_step = comptime!((shape.value_bytes() / UNIT) as u64);

    let mut keys = key_ring(memory, barriers, group, shape);
    let mut values = Ring::to_empty(
        memory + comptime!(shape.value_ring() as u32),
        barriers + comptime!(shape.value_full() as u32),
        barriers + comptime!(shape.value_empty() as u32),
    );
    let query = descriptor_rows(memory + query_start(group, shape));
    let key = keys.first_rows();
    let value = descriptor_columns(memory + comptime!(shape.value_ring() as u32), key_panel);

    let mut sums = Vector::<f32, O>::zeroed();
    if work.tiles > 0u32 {
        barrier_wait(barriers + query_barrier(group, shape), 0u32);
        let tile = keys.await_tile() * key_step;
        let s = multiply::<S>(query, key + tile, scores, query_panel, key_panel);
        let s = wait::<S>(s, 0usize, scores);
        keys.release(cubes);
        let exponentials = softmax.update::<S>(s, visible, work.first_key, scale, count, sides);
        let mut p = weights::<P>(&exponentials, count, half);
        let turns = Turns::new(group, work.tiles - 1u32, groups);
        for t in 1..work.tiles {
            keys.advance(comptime!(shape.settings.key_stages));
            let tile = keys.await_tile() * key_step;
            if comptime!(take_turns) {
                turns.wait();
            }
            let s = multiply::<S>(query, key + tile, scores, query_panel, key_panel);
            sums = scale_rows::<O>(sums, softmax.upper_decay(), softmax.lower_decay(), outputs);
            let tile = values.await_tile() * value_step;
            sums = accumulate::<O, P>(sums, p, value + tile, outputs);
            if comptime!(take_turns) {
                turns.pass(t - 1u32, groups);
            }
            let s = wait::<S>(s, 1usize, scores);
            keys.release(cubes);
            let first_key = work.first_key + (t * keys_a_tile) as i32;
            let exponentials = softmax.update::<S>(s, visible, first_key, scale, count, sides);
            sums = wait_after::<O>(sums, softmax.witness(), outputs);
            values.release(cubes);
            // Not before: these registers are the left operand of the product just awaited.
            p = weights::<P>(&exponentials, count, half);
            values.advance(comptime!(shape.settings.value_stages));
        }
        sums = scale_rows::<O>(sums, softmax.upper_decay(), softmax.lower_decay(), outputs);
        let tile = values.await_tile() * value_step;
        sums = accumulate::<O, P>(sums, p, value + tile, outputs);
        sums = wait::<O>(sums, 0usize, outputs);
    }
    sums
}

/// The ring of keys that warpgroup `group` reads.
#[cube]
fn key_ring(memory: u32, barriers: u32, group: u32, #[comptime] shape: HopperShape) -> Ring {
    let mut tiles = memory + comptime!(shape.key_ring(0) as u32);
    let mut full = barriers + comptime!(shape.key_full(0) as u32);
    let mut empty = barriers + comptime!(shape.key_empty(0) as u32);
    if comptime!(shape.key_maps == 2) {
        tiles += group * comptime!((shape.key_ring(1) - shape.key_ring(0)) as u32);
        full += group * comptime!((shape.key_full(1) - shape.key_full(0)) as u32);
        empty += group * comptime!((shape.key_empty(1) - shape.key_empty(0)) as u32);
    }
    Ring::to_empty(tiles, full, empty)
}

/// Where the queries of warpgroup `group` begin: those of its map, or its 64 rows of the only map.
#[cube]
fn query_start(group: u32, #[comptime] shape: HopperShape) -> u32 {
    if comptime!(shape.maps == 2) {
        group * comptime!(shape.query_bytes() as u32)
    } else {
        group * comptime!((ROWS * 128) as u32)
    }
}

#[cube]
fn query_barrier(group: u32, #[comptime] shape: HopperShape) -> u32 {
    if comptime!(shape.maps == 2) {
        group * comptime!(shape.query_full(1) as u32)
    } else {
        0u32.runtime()
    }
}
