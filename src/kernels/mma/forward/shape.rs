//! What is compiled into the forward kernel, and where everything lies in shared memory: the queries of every map, then for
//! each stage the keys of every map, then for each stage the values.

use crate::kernels::mma::dims::Dims;
use crate::kernels::mma::product::Accumulation;
use crate::kernels::mma::tile::Tile;
use crate::kernels::warp::output::Writing;

/// Everything about a forward launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MmaForwardShape {
    pub dims: Dims,
    pub norm: bool,
    pub gamma: bool,
    /// Write O and O_2 before the norm.
    pub save_outputs: bool,
    /// Write the log-sum-exp of every map.
    pub save_lse: bool,
    /// Write eight columns at once, not two.
    pub wide: bool,
}

impl MmaForwardShape {
    pub(crate) const fn query(&self) -> Tile {
        self.dims.heads(self.dims.rows())
    }

    pub(crate) const fn key(&self) -> Tile {
        self.dims.heads(self.dims.settings.tile)
    }

    pub(crate) const fn value(&self) -> Tile {
        self.dims.values(self.dims.settings.tile)
    }

    /// `O += P V` of all maps of a warp.
    pub(crate) const fn sums(&self) -> Accumulation {
        Accumulation {
            first: 0,
            maps: self.dims.warp_maps(),
            columns: self.dims.value_dim,
            tile: self.value(),
            half: self.dims.half,
        }
    }

    pub(crate) const fn writing(&self) -> Writing {
        Writing {
            half: self.dims.half,
            wide: self.wide,
        }
    }

    /// Columns of the output that a thread's warp finishes: with a map each, each of two finishes half.
    pub(crate) const fn kept(&self) -> usize {
        if self.dims.splits() {
            self.dims.value_dim / 2
        } else {
            self.dims.value_dim
        }
    }

    /// Bytes of a stage of keys.
    pub(crate) const fn key_stage(&self) -> usize {
        self.dims.key_maps * self.key().bytes()
    }

    /// Where the keys begin.
    pub(crate) const fn keys(&self) -> usize {
        self.dims.maps * self.query().bytes()
    }

    /// Where the values begin.
    pub(crate) const fn values(&self) -> usize {
        self.keys() + self.dims.settings.stages * self.key_stage()
    }

    /// Bytes in which a warp hands half of its columns to the other, over tiles that nobody reads any more.
    pub(crate) const fn exchange_bytes(&self) -> usize {
        16 * self.kept() * size_of::<f32>()
    }

    /// Where the row sums of the warps begin, after what they exchange.
    pub(crate) const fn row_sums(&self) -> usize {
        self.dims.settings.warps * self.exchange_bytes()
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        let tiles = self.values() + self.dims.settings.stages * self.value().bytes();
        let epilogue = self.row_sums() + 64 * self.dims.settings.warps;
        if self.dims.splits() && epilogue > tiles {
            epilogue
        } else {
            tiles
        }
    }
}
