//! Gradient of query: 128 queries stay, 64 a warpgroup, both maps in each; tiles of keys and values stream by. Rows of
//! products are queries, so statistics are a few registers, `dS` is a left operand as it is, and λ's sign and the scale are
//! applied once, at the end.
//!
//! ```text
//! begin S(0)
//! for t in 0..:
//!     await S(t)
//!     begin dP(t) = dO V(t)ᵀ
//!     P(t) = exp2(S(t) − LSE)                 while dP is computed
//!     await dP(t)
//!     dS(t) = P(t) ⊙ (dP(t) − δ)
//!     begin dQ += dS(t) K(t), begin S(t + 1)
//!     await dQ
//! ```

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::tensor_map_address;

use super::producer::{Sources, produce};
use super::shape::QueriesShape;
use super::tiles::Tiles;
use super::work::{Cube, Work};
use crate::kernels::hopper::accumulator::{ROWS, THREADS, elements, elements_from, upper_row};
use crate::kernels::hopper::backward::probabilities::{
    RowStatistics, pack_maps, row_gradients, row_probabilities, witness,
};
use crate::kernels::hopper::memory::Room;
use crate::kernels::hopper::ptx::set_registers;
use crate::kernels::hopper::ptx::wgmma::{claim_registers, wait, wait_after};
use crate::kernels::hopper::work::Sequence;
use crate::kernels::warp::fragment::in_lower_row;
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::uniform;
use crate::kernels::warp::softmax::Visible;
use crate::math::layout::Strides;
use crate::math::mask::{Band, Sides};

/// Grid: (tiles of 128 queries, query heads, batch). `query`, `key`, `value` and `grad_output` are tensor maps of rank 5 over
/// batch, row, head, pair, column; positions past the end of a sequence read as zero. `statistics` is row-major over batch,
/// head, row, number.
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_queries_hopper<F: Float, W: Size>(
    query: &TensorMap<F, Tiled>,
    key: &TensorMap<F, Tiled>,
    value: &TensorMap<F, Tiled>,
    grad_output: &TensorMap<F, Tiled>,
    statistics: &[f32],
    grad_query: &mut [Vector<u32, W>],
    at: Strides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: QueriesShape,
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
            };
            produce(&sources, &cube, shape);
        }
    } else {
        set_registers(true, comptime!(shape.settings.registers as u32));
        let mut outputs = Outputs::<W>::new(statistics, grad_query, at, scale);
        consume::<W>(&mut outputs, &cube, warpgroup - 1u32, shape);
    }
}

/// What a cube reads besides tiles, and writes.
#[derive(CubeType)]
struct Outputs<'a, W: Size> {
    statistics: &'a [f32],
    query: &'a mut [Vector<u32, W>],
    at: Strides,
    scale: f32,
}

#[cube]
impl<'a, W: Size> Outputs<'a, W> {
    fn new(
        statistics: &'a [f32],
        query: &'a mut [Vector<u32, W>],
        at: Strides,
        scale: f32,
    ) -> Outputs<'a, W> {
        Outputs::<'a, W> {
            statistics,
            query,
            at,
            scale,
        }
    }
}

/// Statistics of both maps.
#[derive(CubeType, Clone, Copy)]
struct Rows {
    first: RowStatistics,
    second: RowStatistics,
    /// Factors that the second map's gradients still lack: −1, or 1 where λ is negative.
    upper_sign: f32,
    lower_sign: f32,
}

/// One computing warpgroup, from its first tile to its outputs.
#[cube]
fn consume<W: Size>(
    outputs: &mut Outputs<W>,
    cube: &Cube,
    group: u32,
    #[comptime] shape: QueriesShape,
) {
    let size!(S) = comptime!(shape.scores().vector());
    let size!(G) = comptime!(shape.weights().vector());
    let size!(Q) = comptime!(shape.sums().vector());
    let size!(P) = comptime!(shape.sums().left_vector());
    let band = &cube.work.sequence.band;
    let first = cube.work.first_query + (group * comptime!(ROWS as u32)) as i32;
    let row = first + upper_row() as i32;
    let last = min(first + comptime!(ROWS as i32), band.query_len) - 1;
    let visible = Visible::new(band, first, last, row, shape.dims.sides);
    let line = Line {
        batch: cube.work.batch,
        head: cube.work.head,
        row: row as u32,
        len: band.query_len as u32,
    };
    let rows = statistics(outputs.statistics, &line, cube.work.heads, shape);
    let mut sums = Vector::<f32, Q>::zeroed();
    if cube.work.tiles > 0u32 {
        let mut tiles = Tiles::new(&cube.room, group, shape);
        let scale = outputs.scale;
        sums = walk::<S, G, Q, P>(&mut tiles, &visible, &rows, &cube.work, scale, shape);
    }
    write::<Q, W>(sums, outputs, &line, &rows, shape);
}

/// Statistics of the thread's rows; past the end, those of the last row.
#[cube]
fn statistics(
    statistics: &[f32],
    line: &Line,
    heads: u32,
    #[comptime] shape: QueriesShape,
) -> Rows {
    let maps = comptime!(shape.dims.maps as u32);
    let numbers = comptime!(shape.dims.statistics() as u32);
    // Lines have an even number of rows.
    let start = (line.batch * heads + line.head) * (line.len + line.len % 2u32);
    let upper = ((start + min(line.row, line.len - 1u32)) * numbers) as usize;
    let lower = ((start + min(line.row + 8u32, line.len - 1u32)) * numbers) as usize;
    let delta = comptime!(maps as usize);
    let first = RowStatistics {
        upper_lse: statistics[upper],
        lower_lse: statistics[lower],
        upper_delta: statistics[upper + delta],
        lower_delta: statistics[lower + delta],
    };
    if comptime!(maps == 2) {
        let second = RowStatistics {
            upper_lse: statistics[upper + 1],
            lower_lse: statistics[lower + 1],
            upper_delta: statistics[upper + 3],
            lower_delta: statistics[lower + 3],
        };
        Rows {
            first,
            second,
            upper_sign: sign(second.upper_lse),
            lower_sign: sign(second.lower_lse),
        }
    } else {
        Rows {
            first,
            second: first,
            upper_sign: 1.0f32.runtime(),
            lower_sign: 1.0f32.runtime(),
        }
    }
}

/// −λ / |λ| from the bit of it in a log-sum-exp.
#[cube]
fn sign(lse: f32) -> f32 {
    select(u32::reinterpret(lse) % 2u32 == 1u32, 1.0f32, -1.0f32)
}

/// All tiles of keys; returns the sums, those of every map side by side.
#[cube]
fn walk<S: Size, G: Size, Q: Size, P: Size>(
    tiles: &mut Tiles,
    visible: &Visible,
    rows: &Rows,
    work: &Work,
    scale: f32,
    #[comptime] shape: QueriesShape,
) -> Vector<f32, Q> {
    let (scores, weights, product) = comptime!((shape.scores(), shape.weights(), shape.sums()));
    let (count, maps) = comptime!((scores.result_registers(), shape.dims.maps));
    let ends = comptime!(Sides {
        left: shape.dims.sides.left,
        right: true
    });
    let scale = scale * comptime!(core::f32::consts::LOG2_E);
    let mut sums = Vector::<f32, Q>::zeroed();
    tiles.await_first();
    let mut s = tiles.begin_scores::<S>(tiles.this(), shape);
    for tile in 0..work.tiles {
        tiles.await_values();
        s = wait::<S>(s, 0usize, scores);
        let mut p1 = elements_from::<S>(s, 0usize, count);
        let mut p2 = elements_from::<S>(s, comptime!((maps - 1) * count), count);
        let dp = tiles.begin_weights::<G>(shape);
        let first = work.first_key + (tile * comptime!(shape.settings.tile as u32)) as i32;
        if visible.is_edge(first, count, ends) {
            visible.hide(&mut p1, first, count, ends);
            if comptime!(maps == 2) {
                visible.hide(&mut p2, first, count, ends);
            }
        }
        row_probabilities(&mut p1, &rows.first, scale, count);
        if comptime!(maps == 2) {
            row_probabilities(&mut p2, &rows.second, scale, count);
        }
        let dp = if comptime!(maps == 2) {
            wait_after::<G>(dp, witness(&p1, &p2, count), weights)
        } else {
            wait_after::<G>(dp, witness(&p1, &p1, count), weights)
        };
        tiles.free_values();
        let dp = elements::<G>(dp, count);
        row_gradients(&mut p1, &dp, &rows.first, count);
        if comptime!(maps == 2) {
            row_gradients(&mut p2, &dp, &rows.second, count);
        }
        let ds = pack_maps(&p1, &p2, count, product).into_vector::<P>();
        sums = tiles.begin_sums::<Q, P>(sums, ds, shape);
        let more = tile + 1u32 < work.tiles;
        // After the last tile, its own scores again: they are not read.
        let mut next = tiles.this();
        if more {
            next = tiles.await_next();
        }
        s = tiles.begin_scores::<S>(next, shape);
        sums = wait::<Q>(sums, 1usize, product);
        if more {
            tiles.free_keys();
        }
    }
    wait::<S>(s, 0usize, scores);
    sums
}

/// The sums of the thread's queries.
#[cube]
fn write<Q: Size, W: Size>(
    sums: Vector<f32, Q>,
    outputs: &mut Outputs<W>,
    line: &Line,
    rows: &Rows,
    #[comptime] shape: QueriesShape,
) {
    let writing = comptime!(shape.dims.writing());
    let count = comptime!(shape.sums().result_registers());
    let scale = outputs.scale;
    let target = Target::new(&outputs.at, line, 0u32, writing);
    let first = scaled_rows::<Q>(sums, scale, scale, 0usize, count);
    target.write::<W>(outputs.query, &first, 0usize, 0usize, count);
    if comptime!(shape.dims.maps == 2) {
        let target = Target::new(&outputs.at, line, 1u32, writing);
        let (upper, lower) = (scale * rows.upper_sign, scale * rows.lower_sign);
        let second = scaled_rows::<Q>(sums, upper, lower, count, count);
        target.write::<W>(outputs.query, &second, 0usize, 0usize, count);
    }
}

/// The registers of one of several results, from register `first` on, each row times its factor.
#[cube]
fn scaled_rows<N: Size>(
    product: Vector<f32, N>,
    upper: f32,
    lower: f32,
    #[comptime] first: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let mut out = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        out[i] = product.extract(comptime!(first + i))
            * if comptime!(in_lower_row(i)) {
                lower
            } else {
                upper
            };
    }
    out
}
