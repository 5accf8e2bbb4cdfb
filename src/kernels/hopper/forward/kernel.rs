//! Forward: a tile of queries walks the key tiles once. One warpgroup loads, the others compute; with two maps, one
//! computes each map over the same values.
//!
//! A computing warpgroup holds the scores S and the sums O of its 64 rows in registers, and with the setting `overlap` it
//! never lets the tensor cores wait for a softmax: while `S(t)`'s exponentials are computed, they multiply
//! `P(t − 1) V(t − 1)`.
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
//!
//! Without `overlap`, O is begun and awaited before `S(t)` begins. Then neither hides the other, and P and S are never
//! held at once: the plain schedule, to measure the overlap by.

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::tensor_map_address;

use super::epilogue::{Gain, HopperStrides, Outputs, finish, write_lse};
use super::producer::{Sources, produce};
use super::shape::HopperShape;
use super::tiles::Tiles;
use super::work::{Cube, Work};
use crate::kernels::hopper::accumulator::{ROWS, THREADS, elements, upper_row};
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::mbarrier::{cluster_arrive, cluster_wait};
use crate::kernels::hopper::ptx::set_registers;
use crate::kernels::hopper::ptx::wgmma::{wait, wait_after};
use crate::kernels::hopper::turns::Turns;
use crate::kernels::hopper::work::Sequence;
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::warp::output::Line;
use crate::kernels::warp::ptx::uniform;
use crate::kernels::warp::softmax::{Softmax, Visible, weights};
use crate::math::mask::Band;

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
    let room = Room::reserve(comptime!(shape.layout().memory));
    if comptime!(shape.cubes() > 1) {
        cluster_arrive();
        cluster_wait();
    } else {
        sync_cube();
    }
    let sequence = Sequence::dense(band);
    let work = Work::decode(sequence, numbers.group, shape);
    let cube = Cube { room, work };
    let warpgroup = uniform(UNIT_POS / comptime!(THREADS as u32));
    if warpgroup == 0u32 {
        set_registers(false, comptime!(shape.settings.producer_registers() as u32));
        if UNIT_POS == 0 && cube.work.tiles > 0u32 {
            let sources = Sources {
                query: tensor_map_address(query),
                key: tensor_map_address(key),
                value: tensor_map_address(value),
            };
            produce(&sources, &cube, shape);
        }
    } else {
        set_registers(true, comptime!(shape.settings.registers as u32));
        let gain = Gain {
            eps: numbers.eps,
            factor: numbers.factor,
        };
        let mut outputs = Outputs::<W>::new(lambda, gamma, output, saved, lse, at, gain);
        consume::<W>(&mut outputs, &cube, &numbers, warpgroup - 1u32, shape);
    }
}

/// One computing warpgroup, from its first tile to its outputs.
#[cube]
fn consume<W: Size>(
    outputs: &mut Outputs<W>,
    cube: &Cube,
    numbers: &ForwardNumbers,
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
    let band = &cube.work.sequence.band;
    let first = if comptime!(shape.maps == 2) {
        cube.work.first_query
    } else {
        cube.work.first_query + (group * comptime!(ROWS as u32)) as i32
    };
    let row = first + upper_row() as i32;
    let last = min(first + comptime!(ROWS as i32), band.query_len) - 1;
    let visible = Visible::new(band, first, last, row, shape.sides);
    let scale = numbers.scale * comptime!(core::f32::consts::LOG2_E);
    let mut softmax = Softmax::new();
    let sums = walk::<S, O, P>(&mut softmax, &visible, cube, group, scale, shape);
    if comptime!(shape.cubes() > 1) {
        cluster_arrive();
    }
    softmax.finish();
    let line = Line {
        batch: cube.work.batch,
        head: cube.work.head,
        row: row as u32,
        len: band.query_len as u32,
    };
    if comptime!(shape.save_lse) {
        write_lse::<W>(outputs, &softmax, &line, map, scale, numbers.unseen);
    }
    // Registers have numbers, not indices: the columns that are kept must be known when the code is made.
    let memory = cube.room.data;
    if map == 0u32 {
        finish::<O, W>(sums, &softmax, outputs, &line, memory, 0usize, shape);
    } else if comptime!(shape.maps == 2) {
        finish::<O, W>(sums, &softmax, outputs, &line, memory, 1usize, shape);
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
    cube: &Cube,
    group: u32,
    scale: f32,
    #[comptime] shape: HopperShape,
) -> Vector<f32, O> {
    let scores = comptime!(shape.scores());
    let outputs = comptime!(shape.outputs());
    let (count, words) = comptime!((scores.registers(), outputs.left_vector()));
    let (sides, half) = comptime!((shape.sides, shape.half));
    let groups = comptime!(shape.settings.consumers);
    let (overlap, take_turns) = comptime!((shape.settings.overlap, shape.settings.turns));
    let pending = comptime!(usize::from(overlap));

    let work = &cube.work;
    let mut tiles = Tiles::new(&cube.room, group, shape);
    let mut sums = Vector::<f32, O>::zeroed();
    if work.tiles > 0u32 {
        tiles.await_queries();
        let s = tiles.begin_scores::<S>(shape);
        let s = wait::<S>(s, 0usize, scores);
        tiles.free_keys(shape);
        let mut x = elements::<S>(s, count);
        softmax.update(&mut x, visible, work.first_key, scale, count, sides);
        let mut p = weights(&x, count, words, half).into_vector::<P>();
        let turns = Turns::new(group, work.tiles - 1u32, groups);
        for t in 1..work.tiles {
            if comptime!(take_turns) {
                turns.wait();
            }
            if comptime!(!overlap) {
                sums = tiles.begin_sums::<O, P>(sums, p, softmax.decay(), shape);
                sums = wait::<O>(sums, 0usize, outputs);
                tiles.free_values(shape);
            }
            let s = tiles.begin_scores::<S>(shape);
            if comptime!(overlap) {
                sums = tiles.begin_sums::<O, P>(sums, p, softmax.decay(), shape);
            }
            if comptime!(take_turns) {
                turns.pass(t - 1u32, groups);
            }
            let s = wait::<S>(s, pending, scores);
            tiles.free_keys(shape);
            let first_key = work.first_key + (t * comptime!(shape.settings.keys as u32)) as i32;
            let mut x = elements::<S>(s, count);
            softmax.update(&mut x, visible, first_key, scale, count, sides);
            if comptime!(overlap) {
                sums = wait_after::<O>(sums, softmax.witness(), outputs);
                tiles.free_values(shape);
            }
            // Not before: these registers are the left operand of the product just awaited.
            p = weights(&x, count, words, half).into_vector::<P>();
        }
        sums = tiles.begin_sums::<O, P>(sums, p, softmax.decay(), shape);
        sums = wait::<O>(sums, 0usize, outputs);
    }
    sums
}
