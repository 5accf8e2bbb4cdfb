//! What both kernels are compiled for, and the tiles and products that follow.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::hopper::accumulator::THREADS;
use crate::kernels::hopper::ptx::wgmma::{Operand, PANEL, Product, WHOLE_ROW};
use crate::kernels::warp::output::Writing;
use crate::kernels::warp::ptx::Half;
use crate::math::mask::Sides;

/// Warpgroups that compute, 64 rows each.
pub(crate) const GROUPS: usize = 2;
/// Rows that stay: keys where queries stream by, and the reverse.
pub(crate) const RESIDENT: usize = 64 * GROUPS;
/// Threads of a cube.
pub(crate) const CUBE: usize = (GROUPS + 1) * THREADS;
/// Warps that release a tile.
pub(crate) const READERS: usize = 4 * GROUPS;

/// The problem, as far as it is compiled into a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dims {
    pub head_dim: usize,
    pub value_dim: usize,
    pub maps: usize,
    pub key_maps: usize,
    /// Pieces of a value that lie apart: 1 or 2.
    pub value_parts: usize,
    pub half: Half,
    pub sides: Sides,
    /// Write eight columns at once, not two.
    pub wide: bool,
}

/// What one launch of a kernel is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GradientSettings {
    /// Rows of a tile that streams by.
    pub tile: usize,
    /// Tiles in flight.
    pub stages: usize,
    /// Registers of a computing thread.
    pub registers: usize,
}

/// Registers of a computing thread for everything but sums and scores.
pub(crate) const OTHER_REGISTERS: usize = 36;

impl GradientSettings {
    /// Refuses what needs more registers or shared memory than there are.
    pub(crate) fn check(
        &self,
        registers: usize,
        shared_memory: usize,
        device: &Device,
    ) -> Result<()> {
        if registers > self.registers {
            let needed = format!(
                "registers is {}, expected about {registers}",
                self.registers
            );
            return Err(Error::Settings {
                settings: format!("tiles of {} rows", self.tile),
                problem: needed,
            });
        }
        device.check(
            "bytes of shared memory",
            shared_memory,
            device.shared_memory,
        )
    }

    /// Registers of a loading thread: what is left of those that all begin with.
    pub(crate) const fn producer_registers(&self) -> usize {
        let first = 65_536 / CUBE / 8 * 8;
        (GROUPS + 1) * first - GROUPS * self.registers
    }
}

/// A tile in shared memory: panels of 64 columns, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// Pieces of a row that lie apart in memory.
    pub parts: usize,
}

impl Tile {
    pub(crate) const fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Distance of the panels.
    pub(crate) const fn panel_bytes(&self) -> usize {
        self.rows * WHOLE_ROW
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }
}

impl Tile {
    /// As an operand of products of every map, `maps` of which lie one after the other; of one, all have the same.
    pub(crate) const fn operand(&self, maps: usize) -> Operand {
        Operand {
            panel: self.panel_bytes(),
            map: if maps == 2 { self.bytes() } else { 0 },
        }
    }
}

impl Dims {
    /// Rows of queries or keys of one map.
    pub(crate) const fn head_tile(&self, rows: usize) -> Tile {
        Tile {
            rows,
            columns: self.head_dim,
            parts: 1,
        }
    }

    /// Rows of values.
    pub(crate) const fn value_tile(&self, rows: usize) -> Tile {
        Tile {
            rows,
            columns: self.value_dim,
            parts: self.value_parts,
        }
    }

    /// Rows of the output's gradient.
    pub(crate) const fn gradient_tile(&self, rows: usize) -> Tile {
        Tile {
            rows,
            columns: self.value_dim,
            parts: 1,
        }
    }

    pub(crate) const fn product(&self, columns: usize, depth: usize) -> Product {
        Product::one(columns, depth, self.half)
    }

    pub(crate) const fn writing(&self) -> Writing {
        Writing {
            half: self.half,
            wide: self.wide,
        }
    }

    /// Numbers of a query's statistics: log-sum-exp of each map, then δ of each.
    pub(crate) const fn statistics(&self) -> usize {
        2 * self.maps
    }
}
