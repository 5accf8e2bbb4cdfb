//! Forward: a tile of queries walks the key tiles once; a warp holds scores and sums of 16 rows in registers.
//!
//! The tensor cores and the exponentials of a warp take turns; other warps fill the gaps. Copies run beside both:
//!
//! ```text
//! for t in 0..:
//!     await K(t), all warps                begin to copy V(t + stages − 1)
//!     for each map of the warp: S = Q K(t)ᵀ, P = softmax(S), O = decay · O
//!     await V(t), all warps                begin to copy K(t + stages)
//!     for each map of the warp: O += P V(t)
//! ```
//!
//! A warp that has both maps loads a fragment of V once for two products.

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::generic_to_shared;

use super::epilogue::{Outputs, finish};
use super::shape::MmaForwardShape;
use crate::kernels::mma::dims::Dims;
use crate::kernels::mma::product::{accumulate, left_operand, scale_rows, scores, zeros};
use crate::kernels::mma::ptx::{W4, commit_copies, wait_copies};
use crate::kernels::mma::tile::{Rows, left_lane, load, right_lane};
use crate::kernels::mma::walk::{first_of, reversed, stage_of, tiles_of};
use crate::kernels::mma::warp::{thread_row, warp_map, warp_row};
use crate::kernels::numbers::ForwardNumbers;
use crate::kernels::warp::output::Line;
use crate::kernels::warp::ptx::any_below_one;
use crate::kernels::warp::softmax::{Softmax, Visible};
use crate::math::F4;
use crate::math::layout::Strides;
use crate::math::mask::{Band, Bounds};

/// Where the forward's tensors lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct MmaForwardStrides {
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
pub(crate) fn attention_forward_mma<F: Float, W: Size>(
    query: &[F],
    key: &[F],
    value: &[F],
    lambda: &[f32],
    gamma: &[f32],
    output: &mut [Vector<u32, W>],
    saved: &mut [Vector<u32, W>],
    lse: &mut [f32],
    at: MmaForwardStrides,
    band: Band,
    numbers: ForwardNumbers,
    #[comptime] shape: MmaForwardShape,
    #[define(F)] _dtype: ElemType,
) {
    let tiles = Shared::<[u32]>::new_aligned_slice(comptime!(shape.shared_memory() / 4), 1024usize);
    let memory = generic_to_shared::<u32>(unsafe { tiles.as_ptr_unchecked() });
    let rows = comptime!(shape.dims.rows() as u32);
    let sides = comptime!(shape.dims.sides);

    let first = reversed(CUBE_POS_X, CUBE_COUNT_X) * rows;
    let last = min((first + rows) as i32, band.query_len) - 1;
    let bounds = band.keys(first as i32, last, sides);
    let walk = Walk {
        shape,
        first,
        bounds,
        memory,
        scale: numbers.scale * comptime!(core::f32::consts::LOG2_E),
        sources: Sources::new(&at, &band, CUBE_POS_Y / numbers.group, shape),
        band,
    };
    let mut signal = Softmax::new();
    let mut noise = Softmax::new();
    let sums = walk.go(query, key, value, &mut signal, &mut noise);
    // Nobody reads a tile any more: warps may exchange through them.
    sync_cube();
    let line = Line {
        batch: CUBE_POS_Z,
        head: CUBE_POS_Y,
        row: first + thread_row(shape.dims),
        len: walk.band.query_len as u32,
    };
    let mut outputs = Outputs {
        signal,
        noise,
        scale: walk.scale,
        memory,
        line,
    };
    finish::<W>(
        &mut outputs,
        &sums,
        lambda,
        gamma,
        output,
        saved,
        lse,
        &at,
        &numbers,
        shape,
    );
}

/// Rows that tiles are loaded from; a second map's are `pair` elements further.
#[derive(CubeType, Clone, Copy)]
struct Sources {
    query: Rows,
    noise_query: Rows,
    key: Rows,
    noise_key: Rows,
    value: Rows,
}

#[cube]
impl Sources {
    fn new(
        at: &MmaForwardStrides,
        band: &Band,
        kv_head: u32,
        #[comptime] shape: MmaForwardShape,
    ) -> Sources {
        let (batch, head) = (CUBE_POS_Z, CUBE_POS_Y);
        let (queries, keys) = (band.query_len as u32, band.key_len as u32);
        let second = comptime!(shape.dims.maps as u32 - 1);
        let second_key = comptime!(shape.dims.key_maps as u32 - 1);
        Sources {
            query: Rows::of_map(&at.query, batch, head, 0u32, queries),
            noise_query: Rows::of_map(&at.query, batch, head, second.runtime(), queries),
            key: Rows::of_map(&at.key, batch, kv_head, 0u32, keys),
            noise_key: Rows::of_map(&at.key, batch, kv_head, second_key.runtime(), keys),
            value: Rows::in_parts(&at.value, batch, kv_head, keys),
        }
    }
}

/// The walk of a cube along the keys of its queries.
#[derive(CubeType, Clone, Copy)]
struct Walk {
    #[cube(comptime)]
    shape: MmaForwardShape,
    /// First query.
    first: u32,
    bounds: Bounds,
    memory: u32,
    /// Of scores, for exponentials of base 2.
    scale: f32,
    sources: Sources,
    band: Band,
}

#[cube]
impl Walk {
    /// The sums of exponentials times values over all keys, of every map of the warp.
    fn go<F: Float>(
        &self,
        query: &[F],
        key: &[F],
        value: &[F],
        signal: &mut Softmax,
        noise: &mut Softmax,
    ) -> Array<F4> {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let (stages, tile) = comptime!((dims.settings.stages, dims.settings.tile));
        let mut sums = zeros(comptime!(dims.warp_maps() * dims.value_dim / 8));
        let tiles = tiles_of(&self.bounds, tile);
        if tiles > 0u32 {
            let visible = self.visible(dims);
            self.load_queries(query);
            #[unroll]
            for stage in 0..stages {
                self.load_keys(key, comptime!(stage as u32).runtime(), tiles);
                commit_copies();
                if comptime!(stage + 1 < stages) {
                    self.load_values(value, comptime!(stage as u32).runtime(), tiles);
                    commit_copies();
                }
            }
            for t in 0..tiles {
                wait_copies(comptime!(2 * stages - 2));
                sync_cube();
                self.load_values(value, t + comptime!(stages as u32 - 1), tiles);
                commit_copies();
                let mut weights = Array::<W4>::new(comptime!(dims.warp_maps() * tile / 16));
                self.attend(&mut weights, signal, &visible, t, 0usize);
                if comptime!(dims.warp_maps() == 2) {
                    self.attend(&mut weights, noise, &visible, t, 1usize);
                }
                wait_copies(comptime!(2 * stages - 2));
                sync_cube();
                self.load_keys(key, t + comptime!(stages as u32), tiles);
                commit_copies();
                decay(&mut sums, signal, noise, dims);
                let values = self.memory
                    + comptime!(shape.values() as u32)
                    + stage_of(t, stages) * comptime!(shape.value().bytes() as u32);
                let values = left_lane(values, 0u32, shape.value());
                accumulate(&mut sums, &weights, values, shape.sums());
            }
        }
        sums
    }

    /// What the warp's rows see.
    fn visible(&self, #[comptime] dims: Dims) -> Visible {
        let first = (self.first + warp_row(dims)) as i32;
        let last = min(first + 16, self.band.query_len) - 1;
        let upper = (self.first + thread_row(dims)) as i32;
        Visible::new(&self.band, first, last, upper, dims.sides)
    }

    fn load_queries<F: Float>(&self, query: &[F]) {
        let shape = comptime!(self.shape);
        let (tile, threads) = comptime!((shape.query(), shape.dims.threads()));
        load(
            query,
            &self.sources.query,
            self.first,
            self.memory,
            tile,
            threads,
        );
        if comptime!(shape.dims.maps == 2) {
            let to = self.memory + comptime!(tile.bytes() as u32);
            load(
                query,
                &self.sources.noise_query,
                self.first,
                to,
                tile,
                threads,
            );
        }
    }

    /// Begins to load the keys of tile `t`, if there is one.
    fn load_keys<F: Float>(&self, key: &[F], t: u32, tiles: u32) {
        let shape = comptime!(self.shape);
        if t < tiles {
            let (tile, threads) = comptime!((shape.key(), shape.dims.threads()));
            let first = first_of(&self.bounds, t, tile.rows);
            let stage = stage_of(t, shape.dims.settings.stages);
            let to = self.memory
                + comptime!(shape.keys() as u32)
                + stage * comptime!(shape.key_stage() as u32);
            load(key, &self.sources.key, first, to, tile, threads);
            if comptime!(shape.dims.key_maps == 2) {
                let to = to + comptime!(tile.bytes() as u32);
                load(key, &self.sources.noise_key, first, to, tile, threads);
            }
        }
    }

    /// The same for its values.
    fn load_values<F: Float>(&self, value: &[F], t: u32, tiles: u32) {
        let shape = comptime!(self.shape);
        if t < tiles {
            let (tile, threads) = comptime!((shape.value(), shape.dims.threads()));
            let stage = stage_of(t, shape.dims.settings.stages);
            let to = self.memory
                + comptime!(shape.values() as u32)
                + stage * comptime!(tile.bytes() as u32);
            load(
                value,
                &self.sources.value,
                first_of(&self.bounds, t, tile.rows),
                to,
                tile,
                threads,
            );
        }
    }

    /// Scores of tile `t` and the warp's map number `map` to weights.
    fn attend(
        &self,
        weights: &mut Array<W4>,
        softmax: &mut Softmax,
        visible: &Visible,
        t: u32,
        #[comptime] map: usize,
    ) {
        let shape = comptime!(self.shape);
        let dims = comptime!(shape.dims);
        let (query, key) = comptime!((shape.query(), shape.key()));
        let mut left = self.memory + comptime!((map * query.bytes()) as u32);
        let mut right = self.memory
            + comptime!((shape.keys() + dims.key_map(map) * key.bytes()) as u32)
            + stage_of(t, dims.settings.stages) * comptime!(shape.key_stage() as u32);
        if comptime!(dims.splits()) {
            left += warp_map(dims) * comptime!(query.bytes() as u32);
            right += warp_map(dims) * comptime!((dims.key_map(1) * key.bytes()) as u32);
        }
        let (left, right) = (
            left_lane(left, warp_row(dims), query),
            right_lane(right, key),
        );
        let mut x = scores(left, right, query, key, dims.half);
        let first = first_of(&self.bounds, t, key.rows) as i32;
        softmax.update_rarely(
            &mut x,
            visible,
            first,
            self.scale,
            comptime!(key.rows / 2),
            dims.sides,
        );
        left_operand(
            weights,
            &x,
            comptime!(map * key.rows / 16),
            comptime!(key.rows / 8),
            dims.half,
        );
    }
}

/// The sums decay where a maximum moved, which is rare: the warp asks first. Here, not where scores become weights, since a
/// branch there would keep the assembler from mixing one map's exponentials with the other's products.
#[cube]
fn decay(sums: &mut Array<F4>, signal: &mut Softmax, noise: &mut Softmax, #[comptime] dims: Dims) {
    let (maps, blocks) = comptime!((dims.warp_maps(), dims.value_dim / 8));
    let first = signal.decay();
    let mut least = min(first.upper, first.lower);
    if comptime!(maps == 2) {
        let second = noise.decay();
        least = min(least, min(second.upper, second.lower));
    }
    if any_below_one(least) {
        scale_rows(sums, first.upper, first.lower, 0usize, blocks);
        if comptime!(maps == 2) {
            let second = noise.decay();
            scale_rows(sums, second.upper, second.lower, blocks, blocks);
        }
    }
}
