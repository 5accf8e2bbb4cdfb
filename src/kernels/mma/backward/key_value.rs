//! Backward, gradients of key and value: a tile of keys walks the query tiles of every head of its group.
//!
//! Keys are the rows of a warp: `Sᵀ = K Qᵀ` and `dPᵀ = V dOᵀ` become `dSᵀ = ± λ Pᵀ ⊙ (dPᵀ − δ)` in registers, the left operand of
//! `dK += dSᵀ Q`, and `(P_1 − λ P_2)ᵀ` is that of `dV += Pᵀ dO`. Where two warps share 16 keys, each has the key's gradient of one
//! map and half of the columns of the value's; they exchange `P_1` and `−λ P_2`.

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::generic_to_shared;

use super::shape::KeyValueShape;
use crate::kernels::mma::dims::Dims;
use crate::kernels::mma::product::{Accumulation, accumulate, left_operand, scaled, scores, zeros};
use crate::kernels::mma::ptx::{W4, commit_copies, copy4, wait_copies};
use crate::kernels::mma::tile::{Rows, left_lane, load, right_lane};
use crate::kernels::mma::walk::{first_of, stage_of, tiles_of};
use crate::kernels::mma::warp::{thread_row, warp_map, warp_row};
use crate::kernels::warp::fragment::first_column;
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::{
    exp2, load2_shared, load4_shared, meet_at, store4_shared, uniform,
};
use crate::kernels::warp::softmax::Visible;
use crate::math::F4;
use crate::math::layout::Strides;
use crate::math::mask::{Band, Bounds, Sides};

/// Where the pass's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct MmaKeyValueStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    /// Gradient of the output before the norm.
    pub grad: Strides,
    pub grad_key: Strides,
    pub grad_value: Strides,
}

/// Grid: (key tiles, key and value heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_key_value_mma<F: Float, K: Size, V: Size>(
    query: &[F],
    key: &[F],
    value: &[F],
    grad: &[F],
    statistics: &[f32],
    grad_key: &mut [Vector<u32, K>],
    grad_value: &mut [Vector<u32, V>],
    at: MmaKeyValueStrides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: KeyValueShape,
    #[define(F)] _dtype: ElemType,
) {
    let dims = comptime!(shape.dims);
    let tiles = Shared::<[u32]>::new_aligned_slice(comptime!(shape.shared_memory() / 4), 1024usize);
    let memory = generic_to_shared::<u32>(unsafe { tiles.as_ptr_unchecked() });
    let rows = comptime!(dims.rows() as u32);
    let first = CUBE_POS_X * rows;
    let last = min((first + rows) as i32, band.key_len) - 1;
    let bounds = band.queries(first as i32, last, dims.sides);
    let tiles = tiles_of(&bounds, dims.settings.tile);
    let walk = Walk {
        shape,
        first,
        bounds,
        tiles,
        count: tiles * group,
        group,
        memory,
        scale: scale * comptime!(core::f32::consts::LOG2_E),
        at,
        len: band.query_len as u32,
    };
    let mut keys = zeros(comptime!(shape.kept_keys() * dims.head_dim / 8));
    let mut values = zeros(comptime!(shape.kept_values() / 8));
    if walk.count > 0u32 {
        walk.load_keys(key, value, band.key_len as u32);
        walk.go(&mut keys, &mut values, query, grad, statistics, &band);
    }
    let line = Line {
        batch: CUBE_POS_Z,
        head: CUBE_POS_Y,
        row: first + thread_row(dims),
        len: band.key_len as u32,
    };
    if comptime!(dims.splits() && dims.key_maps == 1) {
        walk.add_others(&mut keys);
    }
    write_keys::<K>(grad_key, &keys, &walk.at.grad_key, &line, scale, shape);
    write_values::<V>(grad_value, &values, &walk.at.grad_value, &line, shape);
}

#[cube]
fn write_keys<K: Size>(
    grad_key: &mut [Vector<u32, K>],
    sums: &Array<F4>,
    at: &Strides,
    line: &Line,
    scale: f32,
    #[comptime] shape: KeyValueShape,
) {
    let blocks = comptime!(shape.dims.head_dim / 8);
    #[unroll]
    for map in 0..comptime!(shape.kept_keys()) {
        let values = scaled(sums, scale, comptime!(map * blocks), blocks);
        if comptime!(shape.dims.key_maps == 1) {
            // Of two warps the first has the sum of both.
            if warp_map(shape.dims) == 0u32 {
                let target = Target::new(at, line, 0u32, shape.key_writing());
                target.write::<K>(grad_key, &values, 0usize, 0usize, comptime!(4 * blocks));
            }
        } else {
            let number = warp_map(shape.dims) + comptime!(map as u32);
            let target = Target::new(at, line, number, shape.key_writing());
            target.write::<K>(grad_key, &values, 0usize, 0usize, comptime!(4 * blocks));
        }
    }
}

#[cube]
fn write_values<V: Size>(
    grad_value: &mut [Vector<u32, V>],
    sums: &Array<F4>,
    at: &Strides,
    line: &Line,
    #[comptime] shape: KeyValueShape,
) {
    let parts = comptime!(if shape.dims.splits() {
        1
    } else {
        shape.grad_parts
    });
    let count = comptime!(shape.kept_values() / parts / 8);
    #[unroll]
    for part in 0..parts {
        let values = scaled(sums, 1.0, comptime!(part * count), count);
        let number = warp_map(shape.dims) + comptime!(part as u32);
        let target = Target::new(at, line, number, shape.value_writing());
        target.write::<V>(grad_value, &values, 0usize, 0usize, comptime!(4 * count));
    }
}

/// The walk of a cube along the queries of its keys, head after head of the group.
#[derive(CubeType, Clone, Copy)]
struct Walk {
    #[cube(comptime)]
    shape: KeyValueShape,
    /// First key.
    first: u32,
    bounds: Bounds,
    /// Tiles of a head, and of all.
    tiles: u32,
    count: u32,
    group: u32,
    memory: u32,
    /// Of scores, for exponentials of base 2.
    scale: f32,
    at: MmaKeyValueStrides,
    /// Queries of a sequence.
    len: u32,
}

#[cube]
impl Walk {
    /// Begins to load the keys of every map and the values.
    fn load_keys<F: Float>(&self, key: &[F], value: &[F], len: u32) {
        let shape = comptime!(self.shape);
        let threads = comptime!(shape.dims.threads());
        #[unroll]
        for map in 0..shape.dims.key_maps {
            let number = comptime!(map as u32).runtime();
            let rows = Rows::of_map(&self.at.key, CUBE_POS_Z, CUBE_POS_Y, number, len);
            let to = self.memory + comptime!((map * shape.key().bytes()) as u32);
            load(key, &rows, self.first, to, shape.key(), threads);
        }
        let rows = Rows::in_parts(&self.at.value, CUBE_POS_Z, CUBE_POS_Y, len);
        let to = self.memory + comptime!(shape.values() as u32);
        load(value, &rows, self.first, to, shape.value(), threads);
    }

    /// Address of the stage of tile `t`.
    fn stage(&self, t: u32) -> u32 {
        let shape = comptime!(self.shape);
        let stage = stage_of(t, shape.dims.settings.stages) * comptime!(shape.stage() as u32);
        self.memory + comptime!(shape.stages() as u32) + stage
    }

    /// First query of tile `t`.
    fn first_query(&self, t: u32) -> u32 {
        let shape = comptime!(self.shape);
        first_of(&self.bounds, t % self.tiles, shape.dims.settings.tile)
    }

    /// Begins to load queries of every map, gradients of outputs and statistics of tile `t`, if there is one, as a group.
    fn load_tile<F: Float>(&self, query: &[F], grad: &[F], statistics: &[f32], t: u32) {
        let shape = comptime!(self.shape);
        if t < self.count {
            let threads = comptime!(shape.dims.threads());
            let head = CUBE_POS_Y * self.group + t / self.tiles;
            let first = self.first_query(t);
            let stage = self.stage(t);
            #[unroll]
            for map in 0..shape.dims.maps {
                let number = comptime!(map as u32).runtime();
                let rows = Rows::of_map(&self.at.query, CUBE_POS_Z, head, number, self.len);
                let to = stage + comptime!((map * shape.query().bytes()) as u32);
                load(query, &rows, first, to, shape.query(), threads);
            }
            let rows = Rows::of_map(&self.at.grad, CUBE_POS_Z, head, 0u32, self.len);
            let to = stage + comptime!(shape.grads() as u32);
            load(grad, &rows, first, to, shape.grad(), threads);
            self.load_statistics(statistics, head, first, stage);
        }
        commit_copies();
    }

    /// The statistics of a tile, plane by plane.
    fn load_statistics(&self, statistics: &[f32], head: u32, first: u32, stage: u32) {
        let shape = comptime!(self.shape);
        let (tile, threads) = comptime!((shape.dims.settings.tile as u32, shape.dims.threads()));
        let total = comptime!(shape.planes().count() * shape.dims.settings.tile);
        let heads = CUBE_COUNT_Y * self.group;
        let plane = CUBE_COUNT_Z * heads * self.len;
        let line = (CUBE_POS_Z * heads + head) * self.len;
        let from = unsafe { statistics.as_ptr_unchecked() };
        #[unroll]
        for i in 0..comptime!(total.div_ceil(threads)) {
            let number = UNIT_POS + comptime!((i * threads) as u32);
            let row = first + number % tile;
            let bytes = select(row < self.len, 4u32, 0u32);
            let index = number / tile * plane + line + row;
            let to = stage + number * 4u32;
            if number < comptime!(total as u32) {
                copy4(from, index, bytes, to, comptime!(shape.statistics()));
            }
        }
    }

    /// The gradients of the warp's keys, but for the scale, and of its values.
    fn go<F: Float>(
        &self,
        keys: &mut Array<F4>,
        values: &mut Array<F4>,
        query: &[F],
        grad: &[F],
        statistics: &[f32],
        band: &Band,
    ) {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let (stages, count) = comptime!((dims.settings.stages, dims.settings.tile / 2));
        #[unroll]
        for stage in 0..stages {
            let t = comptime!(stage as u32).runtime();
            self.load_tile(query, grad, statistics, t);
        }
        let visible = self.visible(band);
        for t in 0..self.count {
            wait_copies(comptime!(stages - 1));
            sync_cube();
            let weights = self.grad_weights(t);
            let mut combined = Array::<f32>::new(count);
            self.add_map(keys, &mut combined, &weights, &visible, t, 0usize);
            if comptime!(dims.warp_maps() == 2) {
                self.add_map(keys, &mut combined, &weights, &visible, t, 1usize);
            }
            if comptime!(dims.splits()) {
                self.combine(&mut combined);
            }
            self.add_values(values, &combined, t);
            sync_cube();
            self.load_tile(query, grad, statistics, t + comptime!(stages as u32));
        }
    }

    /// Which queries see the warp's keys.
    fn visible(&self, band: &Band) -> Visible {
        let shape = comptime!(self.shape);
        let sides = comptime!(shape.dims.sides);
        let first = (self.first + warp_row(shape.dims)) as i32;
        let last = min(first + 16, band.key_len) - 1;
        let upper = (self.first + thread_row(shape.dims)) as i32;
        let all = band.queries(first, last, sides);
        let upper_row = band.queries(upper, upper, sides);
        let lower_row = band.queries(upper + 8, upper + 8, sides);
        Visible::of(&all, &upper_row, &lower_row)
    }

    /// `dPᵀ = V dOᵀ` of tile `t`.
    fn grad_weights(&self, t: u32) -> Array<f32> {
        let shape = comptime!(self.shape);
        let (value, grad) = comptime!((shape.value(), shape.grad()));
        let values = self.memory + comptime!(shape.values() as u32);
        let grads = self.stage(t) + comptime!(shape.grads() as u32);
        let left = left_lane(values, warp_row(shape.dims), value);
        scores(left, right_lane(grads, grad), value, grad, shape.dims.half)
    }

    /// Adds `dSᵀ Q` of tile `t` and the warp's map number `map`, and the map's weights to `combined`.
    fn add_map(
        &self,
        sums: &mut Array<F4>,
        combined: &mut Array<f32>,
        weights: &Array<f32>,
        visible: &Visible,
        t: u32,
        #[comptime] map: usize,
    ) {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let (key, query) = comptime!((shape.key(), shape.query()));
        let keys = self.memory
            + comptime!((dims.key_map(map) * key.bytes()) as u32)
            + warp_map(dims) * comptime!((dims.key_map(1) * key.bytes()) as u32);
        let queries = self.stage(t)
            + comptime!((map * query.bytes()) as u32)
            + warp_map(dims) * comptime!(query.bytes() as u32);
        let left = left_lane(keys, warp_row(dims), key);
        let mut x = scores(left, right_lane(queries, query), key, query, dims.half);
        let (first, count) = (self.first_query(t) as i32, comptime!(query.rows / 2));
        // Before queries are those that the keys are after.
        let ends = comptime!(Sides {
            left: dims.sides.right,
            right: true
        });
        if visible.is_edge(first, count, ends) {
            visible.hide(&mut x, first, count, ends);
        }
        self.gradients(&mut x, combined, weights, t, map);
        let mut left = Array::<W4>::new(comptime!(query.rows / 16));
        left_operand(&mut left, &x, 0usize, comptime!(query.rows / 8), dims.half);
        let product = comptime!(Accumulation {
            first: if shape.kept_keys() == 1 {
                0
            } else {
                map * dims.head_dim / 8
            },
            maps: 1,
            columns: dims.head_dim,
            tile: query,
            half: dims.half,
        });
        accumulate(sums, &left, left_lane(queries, 0u32, query), product);
    }

    /// Scores to their gradients; `combined` gets the probabilities, those of the second map times −λ.
    fn gradients(
        &self,
        x: &mut Array<f32>,
        combined: &mut Array<f32>,
        weights: &Array<f32>,
        t: u32,
        #[comptime] map: usize,
    ) {
        let shape = comptime!(self.shape);
        let (dims, planes) = comptime!((shape.dims, shape.planes()));
        let plane = comptime!(4 * dims.settings.tile);
        let start = self.stage(t) + comptime!(shape.statistics() as u32) + first_column() * 4u32;
        let own = start + warp_map(dims) * comptime!(plane as u32);
        let size!(TWO) = 2;
        #[unroll]
        for block in 0..comptime!(dims.settings.tile / 8) {
            let skip = comptime!(32 * block);
            let lse = load2_shared::<TWO>(own, comptime!(planes.lse(map) * plane + skip));
            let delta = load2_shared::<TWO>(own, comptime!(planes.delta(map) * plane + skip));
            let signs = signs(start, comptime!(planes.lambda() * plane + skip), map, dims);
            #[unroll]
            for e in 0..4usize {
                let (i, column) = comptime!((4 * block + e, e % 2));
                let shift = lse.extract(column) * comptime!(-core::f32::consts::LOG2_E);
                let p = exp2(fma(x[i], self.scale, shift)) * signs[column];
                x[i] = p * (weights[i] - delta.extract(column));
                combined[i] = if comptime!(map == 0) {
                    p
                } else {
                    combined[i] + p
                };
            }
        }
    }

    /// Adds the weights of the other map, which another warp has.
    fn combine(&self, combined: &mut Array<f32>) {
        let shape = comptime!(self.shape);
        let size!(FOUR) = 4;
        let warp = uniform(UNIT_POS / 32u32);
        let bytes = comptime!(shape.exchange_bytes() as u32);
        let start = self.memory + comptime!(shape.exchange() as u32) + UNIT_POS % 32u32 * 16u32;
        let (mine, theirs) = (start + warp * bytes, start + (warp ^ 1u32) * bytes);
        #[unroll]
        for block in 0..comptime!(shape.dims.settings.tile / 8) {
            let i = comptime!(4 * block);
            let to = mine + comptime!(512 * block as u32);
            store4_shared(
                to,
                combined[i],
                combined[i + 1],
                combined[i + 2],
                combined[i + 3],
            );
        }
        meet_at(warp / 2u32 + 1u32, 64u32);
        #[unroll]
        for block in 0..comptime!(shape.dims.settings.tile / 8) {
            let other = load4_shared::<FOUR>(theirs + comptime!(512 * block as u32));
            #[unroll]
            for e in 0..4usize {
                combined[comptime!(4 * block + e)] += other.extract(e);
            }
        }
    }

    /// Adds `Pᵀ dO` of tile `t` in the columns that the warp sums.
    fn add_values(&self, sums: &mut Array<F4>, combined: &Array<f32>, t: u32) {
        let shape = comptime!(self.shape);
        let (dims, grad) = comptime!((shape.dims, shape.grad()));
        let mut left = Array::<W4>::new(comptime!(grad.rows / 16));
        left_operand(
            &mut left,
            combined,
            0usize,
            comptime!(grad.rows / 8),
            dims.half,
        );
        let half = comptime!((2 * grad.rows * shape.kept_values()) as u32);
        let grads = self.stage(t) + comptime!(shape.grads() as u32) + warp_map(dims) * half;
        let product = comptime!(Accumulation {
            first: 0,
            maps: 1,
            columns: shape.kept_values(),
            tile: grad,
            half: dims.half,
        });
        accumulate(sums, &left, left_lane(grads, 0u32, grad), product);
    }

    /// Adds the gradients of the key that the other warp of the pair has, where both maps share it; over tiles that nobody
    /// reads any more.
    fn add_others(&self, sums: &mut Array<F4>) {
        let shape = comptime!(self.shape);
        let warp = UNIT_POS / 32u32;
        let bytes = comptime!((64 * shape.dims.head_dim) as u32);
        let start = self.memory + warp / 2u32 * bytes + UNIT_POS % 32u32 * 16u32;
        sync_cube();
        #[unroll]
        for block in 0..comptime!(shape.dims.head_dim / 8) {
            let x = sums[block];
            let to = start + comptime!(512 * block as u32);
            if warp % 2u32 == 1u32 {
                store4_shared(
                    to,
                    x.extract(0usize),
                    x.extract(1usize),
                    x.extract(2usize),
                    x.extract(3usize),
                );
            }
        }
        sync_cube();
        #[unroll]
        for block in 0..comptime!(shape.dims.head_dim / 8) {
            sums[block] += load4_shared::<Const<4>>(start + comptime!(512 * block as u32));
        }
    }
}

/// 1 for the first map and −λ for the second, of two queries; `skip` bytes after `start` are their λ.
#[cube]
fn signs(
    start: u32,
    #[comptime] skip: usize,
    #[comptime] map: usize,
    #[comptime] dims: Dims,
) -> Array<f32> {
    let size!(TWO) = 2;
    let mut out = Array::<f32>::new(2usize);
    if comptime!(dims.splits() || map == 1) {
        let lambda = load2_shared::<TWO>(start, skip);
        let first = warp_map(dims) + comptime!(map as u32) == 0u32;
        #[unroll]
        for i in 0..2usize {
            out[i] = select(first, 1.0f32.runtime(), -lambda.extract(i));
        }
    } else {
        out[0] = 1.0f32.runtime();
        out[1] = 1.0f32.runtime();
    }
    out
}
