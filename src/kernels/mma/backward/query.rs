//! Backward, gradient of the query: a tile of queries walks the key tiles as in the forward pass.
//!
//! A warp computes `dP = dO Vᵀ` once for all its maps. For each map, `S = Q Kᵀ` becomes `dS = ± λ P ⊙ (dP − δ)` in registers, the
//! left operand of `dQ += dS K`.

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::generic_to_shared;

use super::shape::QueryShape;
use crate::kernels::mma::product::{Accumulation, accumulate, left_operand, scaled, scores, zeros};
use crate::kernels::mma::ptx::{W4, commit_copies, wait_copies};
use crate::kernels::mma::tile::{Rows, left_lane, load, right_lane};
use crate::kernels::mma::walk::{first_of, reversed, stage_of, tiles_of};
use crate::kernels::mma::warp::{thread_row, warp_map, warp_row};
use crate::kernels::passes::statistics::planes::Planes;
use crate::kernels::warp::fragment::in_lower_row;
use crate::kernels::warp::output::{Line, Target};
use crate::kernels::warp::ptx::exp2;
use crate::kernels::warp::softmax::Visible;
use crate::math::F4;
use crate::math::layout::Strides;
use crate::math::mask::{Band, Bounds, Sides};

/// Where the pass's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct MmaQueryStrides {
    pub query: Strides,
    pub key: Strides,
    pub value: Strides,
    /// Gradient of the output before the norm.
    pub grad: Strides,
    pub grad_query: Strides,
}

/// Grid: (query tiles, query heads, batch).
#[cube(launch_unchecked)]
pub(crate) fn attention_backward_query_mma<F: Float, W: Size>(
    query: &[F],
    key: &[F],
    value: &[F],
    grad: &[F],
    statistics: &[f32],
    grad_query: &mut [Vector<u32, W>],
    at: MmaQueryStrides,
    band: Band,
    group: u32,
    scale: f32,
    #[comptime] shape: QueryShape,
    #[define(F)] _dtype: ElemType,
) {
    let dims = comptime!(shape.dims);
    let tiles = Shared::<[u32]>::new_aligned_slice(comptime!(shape.shared_memory() / 4), 1024usize);
    let memory = generic_to_shared::<u32>(unsafe { tiles.as_ptr_unchecked() });
    let rows = comptime!(dims.rows() as u32);
    let first = reversed(CUBE_POS_X, CUBE_COUNT_X) * rows;
    let last = min((first + rows) as i32, band.query_len) - 1;
    let walk = Walk {
        shape,
        first,
        bounds: band.keys(first as i32, last, dims.sides),
        memory,
        scale: scale * comptime!(core::f32::consts::LOG2_E),
        at,
        kv_head: CUBE_POS_Y / group,
        len: band.key_len as u32,
    };
    let mut sums = zeros(comptime!(dims.warp_maps() * dims.head_dim / 8));
    let count = tiles_of(&walk.bounds, dims.settings.tile);
    if count > 0u32 {
        walk.load_queries(query, grad, band.query_len as u32);
        walk.go(&mut sums, key, value, statistics, &band, count);
    }
    let line = Line {
        batch: CUBE_POS_Z,
        head: CUBE_POS_Y,
        row: first + thread_row(dims),
        len: band.query_len as u32,
    };
    let blocks = comptime!(dims.head_dim / 8);
    #[unroll]
    for map in 0..comptime!(dims.warp_maps()) {
        let number = warp_map(dims) + comptime!(map as u32);
        let target = Target::new(&walk.at.grad_query, &line, number, shape.writing());
        let values = scaled(&sums, scale, comptime!(map * blocks), blocks);
        target.write::<W>(grad_query, &values, 0usize, 0usize, comptime!(4 * blocks));
    }
}

/// Statistics of the thread's two rows for one map, the log-sum-exps in base 2.
#[derive(CubeType, Clone, Copy)]
struct RowStatistics {
    upper_lse: f32,
    lower_lse: f32,
    upper_delta: f32,
    lower_delta: f32,
    /// 1, or −λ.
    upper_sign: f32,
    lower_sign: f32,
}

#[cube]
impl RowStatistics {
    /// Of map `map`, for rows that begin with `row`; a row past the end reads the last.
    fn load(
        statistics: &[f32],
        map: u32,
        row: u32,
        len: u32,
        #[comptime] maps: usize,
    ) -> RowStatistics {
        let plane = CUBE_COUNT_Z * CUBE_COUNT_Y * len;
        let line = (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) * len;
        let upper = line + min(row, len - 1u32);
        let lower = line + min(row + 8u32, len - 1u32);
        let planes = comptime!(Planes { maps });
        let lse = (map + comptime!(planes.lse(0) as u32)) * plane;
        let delta = (map + comptime!(planes.delta(0) as u32)) * plane;
        let base = comptime!(core::f32::consts::LOG2_E);
        let mut out = RowStatistics {
            upper_lse: statistics[(lse + upper) as usize] * base,
            lower_lse: statistics[(lse + lower) as usize] * base,
            upper_delta: statistics[(delta + upper) as usize],
            lower_delta: statistics[(delta + lower) as usize],
            upper_sign: 1.0f32.runtime(),
            lower_sign: 1.0f32.runtime(),
        };
        if comptime!(maps == 2) {
            let lambda = comptime!(planes.lambda() as u32) * plane;
            let (upper, lower) = (
                statistics[(lambda + upper) as usize],
                statistics[(lambda + lower) as usize],
            );
            out.upper_sign = select(map == 1u32, -upper, 1.0f32.runtime());
            out.lower_sign = select(map == 1u32, -lower, 1.0f32.runtime());
        }
        out
    }

    /// Scores to their gradients.
    fn gradients(
        &self,
        x: &mut Array<f32>,
        weights: &Array<f32>,
        scale: f32,
        #[comptime] count: usize,
    ) {
        #[unroll]
        for i in 0..count {
            let lower = comptime!(in_lower_row(i));
            let lse = if comptime!(lower) {
                self.lower_lse
            } else {
                self.upper_lse
            };
            let delta = if comptime!(lower) {
                self.lower_delta
            } else {
                self.upper_delta
            };
            let sign = if comptime!(lower) {
                self.lower_sign
            } else {
                self.upper_sign
            };
            x[i] = exp2(fma(x[i], scale, -lse)) * (sign * (weights[i] - delta));
        }
    }
}

/// The walk of a cube along the keys of its queries.
#[derive(CubeType, Clone, Copy)]
struct Walk {
    #[cube(comptime)]
    shape: QueryShape,
    /// First query.
    first: u32,
    bounds: Bounds,
    memory: u32,
    /// Of scores, for exponentials of base 2.
    scale: f32,
    at: MmaQueryStrides,
    kv_head: u32,
    /// Keys of the sequence.
    len: u32,
}

#[cube]
impl Walk {
    /// Begins to load the queries of every map and the gradients of their outputs.
    fn load_queries<F: Float>(&self, query: &[F], grad: &[F], len: u32) {
        let shape = comptime!(self.shape);
        let threads = comptime!(shape.dims.threads());
        #[unroll]
        for map in 0..shape.dims.maps {
            let number = comptime!(map as u32).runtime();
            let rows = Rows::of_map(&self.at.query, CUBE_POS_Z, CUBE_POS_Y, number, len);
            let to = self.memory + comptime!((map * shape.query().bytes()) as u32);
            load(query, &rows, self.first, to, shape.query(), threads);
        }
        let rows = Rows::of_map(&self.at.grad, CUBE_POS_Z, CUBE_POS_Y, 0u32, len);
        let to = self.memory + comptime!(shape.grads() as u32);
        load(grad, &rows, self.first, to, shape.grad(), threads);
    }

    /// Address of the stage of tile `t`.
    fn stage(&self, t: u32) -> u32 {
        let shape = comptime!(self.shape);
        let stage = stage_of(t, shape.dims.settings.stages) * comptime!(shape.stage() as u32);
        self.memory + comptime!(shape.stages() as u32) + stage
    }

    /// Begins to load keys and values of tile `t`, if there is one, as a group.
    fn load_tile<F: Float>(&self, key: &[F], value: &[F], t: u32, count: u32) {
        let shape = comptime!(self.shape);
        if t < count {
            let threads = comptime!(shape.dims.threads());
            let first = first_of(&self.bounds, t, shape.dims.settings.tile);
            let stage = self.stage(t);
            #[unroll]
            for map in 0..shape.dims.key_maps {
                let number = comptime!(map as u32).runtime();
                let rows = Rows::of_map(&self.at.key, CUBE_POS_Z, self.kv_head, number, self.len);
                let to = stage + comptime!((map * shape.key().bytes()) as u32);
                load(key, &rows, first, to, shape.key(), threads);
            }
            let rows = Rows::in_parts(&self.at.value, CUBE_POS_Z, self.kv_head, self.len);
            let to = stage + comptime!(shape.values() as u32);
            load(value, &rows, first, to, shape.value(), threads);
        }
        commit_copies();
    }

    /// The gradients of the warp's queries, but for the scale.
    fn go<F: Float>(
        &self,
        sums: &mut Array<F4>,
        key: &[F],
        value: &[F],
        statistics: &[f32],
        band: &Band,
        count: u32,
    ) {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let stages = comptime!(dims.settings.stages);
        #[unroll]
        for stage in 0..stages {
            self.load_tile(key, value, comptime!(stage as u32).runtime(), count);
        }
        let visible = self.visible(band, dims.sides);
        let row = self.first + thread_row(dims);
        let (len, maps) = (band.query_len as u32, comptime!(dims.maps));
        let map = warp_map(dims);
        let first = RowStatistics::load(statistics, map, row, len, maps);
        let second_map = map + comptime!(dims.warp_maps() as u32 - 1);
        let second = RowStatistics::load(statistics, second_map, row, len, maps);
        for t in 0..count {
            wait_copies(comptime!(stages - 1));
            sync_cube();
            let weights = self.grad_weights(t);
            self.add_map(sums, &weights, &first, &visible, t, 0usize);
            if comptime!(dims.warp_maps() == 2) {
                self.add_map(sums, &weights, &second, &visible, t, 1usize);
            }
            sync_cube();
            self.load_tile(key, value, t + comptime!(stages as u32), count);
        }
    }

    /// What the warp's rows see.
    fn visible(&self, band: &Band, #[comptime] sides: Sides) -> Visible {
        let shape = comptime!(self.shape);
        let first = (self.first + warp_row(shape.dims)) as i32;
        let last = min(first + 16, band.query_len) - 1;
        let upper = (self.first + thread_row(shape.dims)) as i32;
        Visible::new(band, first, last, upper, sides)
    }

    /// `dP = dO Vᵀ` of tile `t`.
    fn grad_weights(&self, t: u32) -> Array<f32> {
        let shape = comptime!(self.shape);
        let (grad, value) = comptime!((shape.grad(), shape.value()));
        let grads = self.memory + comptime!(shape.grads() as u32);
        let values = self.stage(t) + comptime!(shape.values() as u32);
        let left = left_lane(grads, warp_row(shape.dims), grad);
        scores(
            left,
            right_lane(values, value),
            grad,
            value,
            shape.dims.half,
        )
    }

    /// Adds `dS K` of tile `t` and the warp's map number `map`.
    fn add_map(
        &self,
        sums: &mut Array<F4>,
        weights: &Array<f32>,
        rows: &RowStatistics,
        visible: &Visible,
        t: u32,
        #[comptime] map: usize,
    ) {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let (query, key) = comptime!((shape.query(), shape.key()));
        let queries = self.memory
            + comptime!((map * query.bytes()) as u32)
            + warp_map(dims) * comptime!(query.bytes() as u32);
        let keys = self.stage(t)
            + comptime!((dims.key_map(map) * key.bytes()) as u32)
            + warp_map(dims) * comptime!((dims.key_map(1) * key.bytes()) as u32);
        let left = left_lane(queries, warp_row(dims), query);
        let mut x = scores(left, right_lane(keys, key), query, key, dims.half);
        let first = first_of(&self.bounds, t, key.rows) as i32;
        let count = comptime!(key.rows / 2);
        let ends = comptime!(Sides {
            left: dims.sides.left,
            right: true
        });
        if visible.is_edge(first, count, ends) {
            visible.hide(&mut x, first, count, ends);
        }
        rows.gradients(&mut x, weights, self.scale, count);
        let mut left = Array::<W4>::new(comptime!(key.rows / 16));
        left_operand(&mut left, &x, 0usize, comptime!(key.rows / 8), dims.half);
        let product = comptime!(Accumulation {
            first: map * dims.head_dim / 8,
            maps: 1,
            columns: dims.head_dim,
            tile: key,
            half: dims.half,
        });
        accumulate(sums, &left, left_lane(keys, 0u32, key), product);
    }
}
