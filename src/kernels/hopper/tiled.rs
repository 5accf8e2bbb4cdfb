//! A tensor as TMA reads it: boxes of rows and columns of a tensor of rank 5.

use cubecl::prelude::*;

use super::feasible::map_strides;
use super::ptx::wgmma::PANEL;
use crate::plan::{Bound, View};

/// A tensor over batch, row, head, pair and column, of which a box of rows and columns is loaded at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct TiledView {
    pub view: View,
    pub sizes: [usize; 5],
    /// Rows and columns of a box.
    pub tile: [usize; 2],
    /// Distances of batch, row, head and pair.
    strides: [usize; 4],
    swizzle: Swizzle,
}

/// How a box lies in shared memory.
#[derive(Debug, Clone, Copy)]
enum Swizzle {
    None,
    Half,
    Whole,
}

impl TiledView {
    /// Rows in panels of `panel` columns.
    pub(super) fn panels(view: View, sizes: [usize; 5], [rows, panel]: [usize; 2]) -> Self {
        let [batch, len, heads, pairs, _] = sizes;
        Self {
            view,
            sizes,
            tile: [rows, panel],
            strides: map_strides(&view, [batch, len, heads, pairs]),
            swizzle: if panel == PANEL {
                Swizzle::Whole
            } else {
                Swizzle::Half
            },
        }
    }

    /// Row-major lines of numbers, `[batch, head, number]`, of which `count` are loaded at once.
    pub(super) fn lines(view: View, [batch, heads, len]: [usize; 3], count: usize) -> Self {
        Self {
            view,
            sizes: [batch, 1, heads, 1, len],
            tile: [1, count],
            strides: [heads * len, len, len, len],
            swizzle: Swizzle::None,
        }
    }

    pub(super) fn argument(&self, bound: &Bound) -> TensorMapArg<Tiled> {
        let View { dtype, strides, .. } = self.view;
        let [a, b, c, d] = self.strides;
        let offset = (strides.offset * dtype.size()) as u64;
        let handle = bound.handle(&self.view).clone().offset_start(offset);
        let strides = [a, b, c, d, 1];
        // SAFETY: shape and strides were compared with the buffer.
        let argument =
            unsafe { TensorArg::from_raw_parts(handle, strides.into(), self.sizes.into()) };
        let [rows, columns] = self.tile;
        let tile_size = [1, rows, 1, 1, columns].into();
        let swizzle = match self.swizzle {
            Swizzle::None => TensorMapSwizzle::None,
            Swizzle::Half => TensorMapSwizzle::B64,
            Swizzle::Whole => TensorMapSwizzle::B128,
        };
        TensorMapArg::new(TiledArgs { tile_size }, argument, dtype.elem())
            .with_swizzle(swizzle)
            .with_prefetch(TensorMapPrefetch::B128)
    }
}
