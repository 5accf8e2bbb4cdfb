//! Gradients of key and value: 128 keys stay, 64 a warpgroup, both maps in each; tiles of queries stream by, of all heads of
//! the group one after the other. Rows of products are keys, so the weights `Pᵀ` and `dSᵀ` are left operands as they are.
//!
//! ```text
//! begin S(0)
//! for t in 0..:
//!     await S(t)
//!     begin dP(t) = V dO(t)ᵀ
//!     P(t) = exp2(S(t) − LSE)                 while dP is computed
//!     begin dV += P(t) dO(t)
//!     await dP(t)
//!     dS(t) = P(t) ⊙ (dP(t) − δ)              while dV is computed
//!     begin dK += dS(t) Q(t), begin S(t + 1)
//!     await dV, dK
//! ```

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::tensor_map_address;

use super::producer::{Sources, produce};
use super::shape::KeysShape;
use super::tiles::Tiles;
use super::work::{Cube, Work};
use crate::kernels::hopper::accumulator::{ROWS, THREADS, elements, elements_from, upper_row};
use crate::kernels::hopper::backward::probabilities::{
    column_gradients, column_gradients_of_one, column_probabilities, column_probabilities_of_one,
    negate_columns, pack_maps, witness,
};
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::set_registers;
use crate::kernels::hopper::ptx::wgmma::{claim_registers, settle, wait, wait_after};
use crate::kernels::hopper::work::Sequence;
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::uniform;
use crate::kernels::warp::softmax::Visible;
use crate::math::layout::Strides;
use crate::math::mask::{Band, Sides};

/// Where the gradients lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct KeysStrides {
    pub key: Strides,
    /// Of the halves of a value.
    pub value: Strides,
}

/// Grid: (tiles of 128 keys, key heads, batch). `query`, `key`, `value` and `grad_output` are tensor maps of rank 5 over batch,
/// row, head, pair, column; `statistics` over batch, 1, head, 1, number: those of a head's rows one after the other. Positions
/// past the end of a sequence read as zero.
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_keys_hopper<F: Float, W: Size>(
    query: &TensorMap<F, Tiled>,
    key: &TensorMap<F, Tiled>,
    value: &TensorMap<F, Tiled>,
    grad_output: &TensorMap<F, Tiled>,
    statistics: &TensorMap<f32, Tiled>,
    grad_key: &mut [Vector<u32, W>],
    grad_value: &mut [Vector<u32, W>],
    at: KeysStrides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: KeysShape,
    #[define(F)] _dtype: ElemType,
) {
    let room = Room::reserve(comptime!(shape.layout().memory));
    sync_cube();
    let work = Work::decode(Sequence::dense(band), group, shape);
    let cube = Cube { room, work };
    let warpgroup = uniform(UNIT_POS / comptime!(THREADS as u32));
    if warpgroup == 0u32 {
        claim_registers(cube.work.sequence.band.query_len, comptime!(shape.widest()));
        set_registers(false, comptime!(shape.settings.producer_registers() as u32));
        if UNIT_POS == 0 && cube.work.tiles > 0u32 {
            let sources = Sources {
                query: tensor_map_address(query),
                key: tensor_map_address(key),
                value: tensor_map_address(value),
                gradient: tensor_map_address(grad_output),
                statistics: tensor_map_address(statistics),
            };
            produce(&sources, &cube, shape);
        }
    } else {
        set_registers(true, comptime!(shape.settings.registers as u32));
        let mut outputs = Outputs::<W>::new(grad_key, grad_value, at, scale);
        consume::<W>(&mut outputs, &cube, warpgroup - 1u32, shape);
    }
}

/// What a cube writes.
#[derive(CubeType)]
struct Outputs<'a, W: Size> {
    key: &'a mut [Vector<u32, W>],
    value: &'a mut [Vector<u32, W>],
    at: KeysStrides,
    scale: f32,
}

#[cube]
impl<'a, W: Size> Outputs<'a, W> {
    fn new(
        key: &'a mut [Vector<u32, W>],
        value: &'a mut [Vector<u32, W>],
        at: KeysStrides,
        scale: f32,
    ) -> Outputs<'a, W> {
        Outputs::<'a, W> {
            key,
            value,
            at,
            scale,
        }
    }
}

/// The sums of a warpgroup: of the keys' gradients, those of every map side by side, and of the values'.
#[derive(CubeType)]
struct Sums<K: Size, V: Size> {
    key: Vector<f32, K>,
    value: Vector<f32, V>,
}

/// One computing warpgroup, from its first tile to its outputs.
#[cube]
fn consume<W: Size>(
    outputs: &mut Outputs<W>,
    cube: &Cube,
    group: u32,
    #[comptime] shape: KeysShape,
) {
    let size!(S) = comptime!(shape.scores().vector());
    let size!(G) = comptime!(shape.weights().vector());
    let size!(K) = comptime!(shape.key_sums().vector());
    let size!(V) = comptime!(shape.value_sums().vector());
    let size!(P) = comptime!(shape.value_sums().left_vector());
    let size!(D) = comptime!(shape.key_sums().left_vector());
    let band = &cube.work.sequence.band;
    let sides = comptime!(shape.dims.sides);
    let first = cube.work.first_key + (group * comptime!(ROWS as u32)) as i32;
    let key = first + upper_row() as i32;
    let last = min(first + comptime!(ROWS as i32), band.key_len) - 1;
    let visible = Visible::of(
        &band.queries(first, last, sides),
        &band.queries(key, key, sides),
        &band.queries(key + 8, key + 8, sides),
    );
    let mut sums = Sums::<K, V> {
        key: Vector::zeroed(),
        value: Vector::zeroed(),
    };
    if cube.work.tiles > 0u32 {
        let mut tiles = Tiles::new(&cube.room, group, shape);
        walk::<S, G, K, V, P, D>(
            &mut sums,
            &mut tiles,
            &visible,
            &cube.work,
            outputs.scale,
            shape,
        );
    }
    let line = Line {
        batch: cube.work.batch,
        head: cube.work.kv_head,
        row: key as u32,
        len: band.key_len as u32,
    };
    write::<K, V, W>(&sums, outputs, &line, shape);
}

/// Which ends of the queries that a key sees are compared: none that the statistics know.
const fn ends(sides: Sides) -> Sides {
    Sides {
        left: sides.right,
        right: sides.left,
    }
}

/// All tiles of queries.
#[cube]
fn walk<S: Size, G: Size, K: Size, V: Size, P: Size, D: Size>(
    sums: &mut Sums<K, V>,
    tiles: &mut Tiles,
    visible: &Visible,
    work: &Work,
    scale: f32,
    #[comptime] shape: KeysShape,
) {
    let (scores, weights, key_sums, value_sums) = comptime!((
        shape.scores(),
        shape.weights(),
        shape.key_sums(),
        shape.value_sums()
    ));
    let (count, maps) = comptime!((scores.result_registers(), shape.dims.maps));
    let ends = comptime!(ends(shape.dims.sides));
    let scale = scale * comptime!(core::f32::consts::LOG2_E);
    let steps = work.steps();
    let mut tile = 0u32.runtime();
    tiles.await_first();
    let mut s = tiles.begin_scores::<S>(tiles.this(), shape);
    for step in 0..steps {
        tiles.await_gradients(shape);
        s = wait::<S>(s, 0usize, scores);
        let mut p1 = elements_from::<S>(s, 0usize, count);
        let mut p2 = elements_from::<S>(s, comptime!((maps - 1) * count), count);
        let mut dp = Vector::<f32, G>::zeroed();
        if comptime!(shape.key) {
            dp = tiles.begin_weights::<G>(shape);
        }
        let first = work.first_query + (tile * comptime!(shape.settings.tile as u32)) as i32;
        if visible.is_edge(first, count, ends) {
            visible.hide(&mut p1, first, count, ends);
            if comptime!(maps == 2) {
                visible.hide(&mut p2, first, count, ends);
            }
        }
        let statistics = tiles.statistics();
        // What the wait for dP waits for, too, where no product of the probabilities is begun before it.
        let mut known = 0.0f32.runtime();
        if comptime!(maps == 2) {
            let signs = column_probabilities(&mut p1, &mut p2, statistics, scale, count);
            if comptime!(!shape.value) {
                known = witness(&p1, &p2, count);
            }
            if signs {
                negate_columns(&mut p2, statistics, count);
            }
        } else {
            column_probabilities_of_one(&mut p1, statistics, scale, count);
            if comptime!(!shape.value) {
                known = witness(&p1, &p1, count);
            }
        }
        if comptime!(shape.value) {
            let combined = combined(&p1, &p2, count, maps);
            let p = pack_maps(&combined, &combined, count, value_sums).into_vector::<P>();
            sums.value = tiles.begin_values::<V, P>(sums.value, p, shape);
        }
        if comptime!(shape.key) {
            if comptime!(shape.value) {
                dp = wait::<G>(dp, 1usize, weights);
            } else {
                dp = wait_after::<G>(dp, known, weights);
            }
            let dp = elements::<G>(dp, count);
            if comptime!(maps == 2) {
                column_gradients(&mut p1, &mut p2, &dp, statistics, count);
            } else {
                column_gradients_of_one(&mut p1, &dp, statistics, count);
            }
            let ds = pack_maps(&p1, &p2, count, key_sums).into_vector::<D>();
            sums.key = tiles.begin_keys::<K, D>(sums.key, ds, shape);
        }
        let more = step + 1u32 < steps;
        // After the last tile, its own scores again: they are not read.
        let mut next = tiles.this();
        if more {
            next = tiles.await_next();
        }
        s = tiles.begin_scores::<S>(next, shape);
        if comptime!(shape.value) {
            sums.value = wait::<V>(sums.value, 1usize, value_sums);
            if comptime!(shape.key) {
                sums.key = settle::<K>(sums.key, key_sums);
            }
        } else {
            sums.key = wait::<K>(sums.key, 1usize, key_sums);
        }
        if more {
            tiles.free(shape);
        }
        tile += 1u32;
        if tile == work.tiles {
            tile = 0u32;
        }
    }
    wait::<S>(s, 0usize, scores);
}

/// `P_1 − λ P_2`
#[cube]
fn combined(
    first: &Array<f32>,
    second: &Array<f32>,
    #[comptime] count: usize,
    #[comptime] maps: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        out[i] = first[i];
        if comptime!(maps == 2) {
            out[i] = first[i] - second[i];
        }
    }
    out
}

/// The sums of the thread's keys.
#[cube]
fn write<K: Size, V: Size, W: Size>(
    sums: &Sums<K, V>,
    outputs: &mut Outputs<W>,
    line: &Line,
    #[comptime] shape: KeysShape,
) {
    let writing = comptime!(shape.dims.writing());
    if comptime!(shape.key) {
        let count = comptime!(shape.key_sums().result_registers());
        #[unroll]
        for map in 0..shape.dims.key_maps {
            let target = Target::new(&outputs.at.key, line, comptime!(map as u32), writing);
            let sums = scaled::<K>(sums.key, outputs.scale, comptime!(map * count), count);
            target.write::<W>(outputs.key, &sums, 0usize, 0usize, count);
        }
    }
    if comptime!(shape.value) {
        let count = comptime!(shape.value_sums().registers());
        let values = elements::<V>(sums.value, count);
        #[unroll]
        for part in 0..2usize {
            let target = Target::new(&outputs.at.value, line, comptime!(part as u32), writing);
            let half = comptime!(count / 2);
            target.write::<W>(outputs.value, &values, comptime!(part * half), 0usize, half);
        }
    }
}

/// The registers of one of several results, from register `first` on, times `scale`.
#[cube]
fn scaled<N: Size>(
    product: Vector<f32, N>,
    scale: f32,
    #[comptime] first: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        out[i] = product.extract(comptime!(first + i)) * scale;
    }
    out
}
