//! What is compiled into the forward kernel, and where everything lies in shared memory.
//!
//! All tiles are panels of 64 columns, 128 bytes a row, values also of 32.

use crate::kernels::hopper::accumulator;
use crate::kernels::hopper::memory::{Memory, Resident, RingPlace};
pub(crate) use crate::kernels::hopper::ptx::wgmma::PANEL;
use crate::kernels::hopper::ptx::wgmma::{Product, WHOLE_ROW};
use crate::kernels::hopper::settings::HopperSettings;
use crate::kernels::warp::output::Writing;
use crate::kernels::warp::ptx::Half;
use crate::math::mask::Sides;

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
        Product::one(self.settings.keys, self.head_dim, self.half)
    }

    /// `O += P V`.
    pub(crate) const fn outputs(&self) -> Product {
        Product::one(self.value_dim, self.settings.keys, self.half)
    }

    /// Registers of a thread's sums that its warpgroup finishes: with two maps, each of a pair finishes half.
    pub(crate) const fn kept(&self) -> usize {
        self.outputs().registers() / self.maps
    }

    /// How results are written.
    pub(crate) const fn writing(&self) -> Writing {
        Writing {
            half: self.half,
            wide: self.wide,
        }
    }

    /// Registers that are written together.
    pub(crate) const fn written(&self) -> usize {
        self.writing().registers()
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

    /// What lies in shared memory.
    pub(crate) fn layout(&self) -> Layout {
        let settings = self.settings;
        let mut memory = Memory::new();
        Layout {
            queries: (0..self.maps)
                .map(|_| memory.resident(self.query_bytes()))
                .collect(),
            keys: (0..self.key_maps)
                .map(|_| memory.ring(settings.key_stages, self.key_bytes(), self.key_readers()))
                .collect(),
            values: memory.ring(
                settings.value_stages,
                self.value_bytes(),
                self.value_readers(),
            ),
            row_sums: (0..self.maps)
                .map(|_| memory.region(accumulator::ROWS * size_of::<f32>()))
                .collect(),
            memory,
        }
    }

    /// Bytes in which one warpgroup hands half of its columns to the other, over tiles that nobody reads any more.
    pub(crate) const fn exchange_bytes(&self) -> usize {
        accumulator::ROWS * self.value_dim / 2 * size_of::<f32>()
    }

    /// Shared memory in bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        self.layout().memory.bytes()
    }

    /// Arrivals, one a warp, that free a tile of keys.
    const fn key_readers(&self) -> usize {
        4 * self.settings.consumers / self.key_maps * self.cubes()
    }

    /// Arrivals that free a tile of values.
    const fn value_readers(&self) -> usize {
        4 * self.settings.consumers * self.cubes()
    }
}

/// Where everything lies in shared memory. All tiles begin at multiples of 1024.
pub(crate) struct Layout {
    /// Of every map.
    pub queries: Vec<Resident>,
    /// Of every map of keys.
    pub keys: Vec<RingPlace>,
    pub values: RingPlace,
    /// The norm's row sums of each warpgroup of a pair.
    pub row_sums: Vec<usize>,
    pub memory: Memory,
}
