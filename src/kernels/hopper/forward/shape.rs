//! What is compiled into the forward kernel, and where everything lies in shared memory.
//!
//! From the start: the queries of every map, the key rings, the value ring, the norm's row sums; then the barriers. All
//! tiles are panels of 64 columns, 128 bytes a row, values also of 32; all begin at multiples of 1024.

use crate::kernels::hopper::accumulator;
use crate::kernels::hopper::ptx::wgmma::{Product, WHOLE_ROW};
use crate::kernels::hopper::settings::HopperSettings;
use crate::kernels::warp::ptx::Half;
use crate::math::mask::Sides;

/// Columns of a panel: 128 bytes.
pub(crate) const PANEL: usize = 64;

/// Everything about a forward launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopperShape {
    pub settings: HopperSettings,
    pub head_dim: usize,
    pub value_dim: usize,
    pub maps: usize,
    pub key_maps: usize,
    /// Pieces of a value that lie apart: 1 or 2.
    pub value_parts: usize,
    /// Columns of a panel of values: [`PANEL`], or half as many where only those divide a piece.
    pub value_panel: usize,
    pub half: Half,
    pub sides: Sides,
    pub norm: bool,
    pub gamma: bool,
    /// Write O and O_2 before the norm.
    pub save_outputs: bool,
    /// Write the log-sum-exp of every map.
    pub save_lse: bool,
    /// Write eight columns at once, not two.
    pub wide: bool,
}

impl HopperShape {
    /// `S = Q Kᵀ` of a warpgroup and a tile of keys.
    pub(crate) const fn scores(&self) -> Product {
        Product {
            columns: self.settings.keys,
            depth: self.head_dim,
            half: self.half,
        }
    }

    /// `O += P V`.
    pub(crate) const fn outputs(&self) -> Product {
        Product {
            columns: self.value_dim,
            depth: self.settings.keys,
            half: self.half,
        }
    }

    /// Registers of a thread's sums that its warpgroup finishes: with two maps, each of a pair finishes half.
    pub(crate) const fn kept(&self) -> usize {
        self.outputs().registers() / self.maps
    }

    /// Registers that are written together: those of eight columns, or where writes are wide of four times eight.
    pub(crate) const fn written(&self) -> usize {
        if self.wide { 16 } else { 4 }
    }

    /// Words of two elements that are written together to one row.
    pub(crate) const fn words(&self) -> usize {
        self.written() / 4
    }

    pub(crate) const fn threads(&self) -> usize {
        accumulator::THREADS * (self.settings.consumers + 1)
    }

    /// Queries of a cube. With two maps, each pair of warpgroups has the same 64.
    pub(crate) const fn rows(&self) -> usize {
        accumulator::ROWS * self.settings.consumers / self.maps
    }

    /// Cubes of a cluster.
    pub(crate) const fn cubes(&self) -> usize {
        self.settings.cluster
    }

    /// Rows of a tile of keys or values that one cube of the cluster loads, for all of them.
    pub(crate) const fn loaded_rows(&self) -> usize {
        self.settings.keys / self.cubes()
    }

    pub(crate) const fn query_panels(&self) -> usize {
        self.head_dim.div_ceil(PANEL)
    }

    pub(crate) const fn value_panels(&self) -> usize {
        self.value_dim.div_ceil(self.value_panel)
    }

    /// A row of a panel of values, in bytes.
    pub(crate) const fn value_row(&self) -> usize {
        self.value_panel * WHOLE_ROW / PANEL
    }

    /// Distance of the panels of a tile of queries.
    pub(crate) const fn query_panel(&self) -> usize {
        self.rows() * WHOLE_ROW
    }

    /// Distance of the panels of a tile of keys.
    pub(crate) const fn key_panel(&self) -> usize {
        self.settings.keys * WHOLE_ROW
    }

    /// Distance of the panels of a tile of values.
    pub(crate) const fn value_panel_bytes(&self) -> usize {
        self.settings.keys * self.value_row()
    }

    /// Bytes of the queries of one map.
    pub(crate) const fn query_bytes(&self) -> usize {
        self.query_panels() * self.query_panel()
    }

    /// Bytes of a tile of keys of one map.
    pub(crate) const fn key_bytes(&self) -> usize {
        self.query_panels() * self.key_panel()
    }

    /// Bytes of a tile of values.
    pub(crate) const fn value_bytes(&self) -> usize {
        self.value_panels() * self.value_panel_bytes()
    }

    /// Where the ring of keys of a map begins.
    pub(crate) const fn key_ring(&self, map: usize) -> usize {
        self.maps * self.query_bytes() + map * self.settings.key_stages * self.key_bytes()
    }

    pub(crate) const fn value_ring(&self) -> usize {
        self.key_ring(self.key_maps)
    }

    /// Where the norm's row sums of one warpgroup begin.
    pub(crate) const fn row_sums(&self, map: usize) -> usize {
        let end = self.value_ring() + self.settings.value_stages * self.value_bytes();
        end + map * accumulator::ROWS * size_of::<f32>()
    }

    pub(crate) const fn data_bytes(&self) -> usize {
        self.row_sums(self.maps)
    }

    /// Bytes in which one warpgroup hands half of its columns to the other, over tiles that nobody reads any more.
    pub(crate) const fn exchange_bytes(&self) -> usize {
        accumulator::ROWS * self.value_dim / 2 * size_of::<f32>()
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        self.data_bytes() + self.barriers() * BARRIER
    }
}

/// Bytes of a barrier.
const BARRIER: usize = 8;

/// Barriers, by their distance from the first in bytes. A ring has one pair for each stage: `full` when the tile has
/// landed, `empty` when the last reader is done with it.
impl HopperShape {
    pub(crate) const fn query_full(&self, map: usize) -> usize {
        map * BARRIER
    }

    pub(crate) const fn key_full(&self, map: usize) -> usize {
        (self.maps + map * self.settings.key_stages) * BARRIER
    }

    pub(crate) const fn key_empty(&self, map: usize) -> usize {
        self.key_full(self.key_maps + map)
    }

    pub(crate) const fn value_full(&self) -> usize {
        self.key_full(2 * self.key_maps)
    }

    pub(crate) const fn value_empty(&self) -> usize {
        self.value_full() + self.settings.value_stages * BARRIER
    }

    pub(crate) const fn barriers(&self) -> usize {
        (self.value_empty() + self.settings.value_stages * BARRIER) / BARRIER
    }

    /// Arrivals, one a warp, that free a tile of keys.
    pub(crate) const fn key_readers(&self) -> usize {
        4 * self.settings.consumers / self.key_maps * self.cubes()
    }

    /// Arrivals that free a tile of values.
    pub(crate) const fn value_readers(&self) -> usize {
        4 * self.settings.consumers * self.cubes()
    }
}
