//! What is compiled into the kernel of the queries' gradient, and what lies in shared memory.

use crate::device::Device;
use crate::error::Result;
use crate::kernels::hopper::backward::dims::{
    Dims, GradientSettings, OTHER_REGISTERS, READERS, RESIDENT, Tile,
};
use crate::kernels::hopper::memory::{Memory, Resident, RingPlace};
use crate::kernels::hopper::ptx::wgmma::Product;

/// Everything about a launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QueriesShape {
    pub dims: Dims,
    pub settings: GradientSettings,
}

/// Where everything lies in shared memory.
pub(crate) struct Layout {
    /// Queries of every map, then the output's gradients.
    pub queries: Resident,
    /// Keys of every map.
    pub keys: RingPlace,
    pub values: RingPlace,
    pub memory: Memory,
}

impl QueriesShape {
    pub(crate) const fn new(dims: Dims, settings: GradientSettings) -> QueriesShape {
        QueriesShape { dims, settings }
    }

    /// Refuses a shape that registers or shared memory do not suffice for.
    pub(crate) fn check(&self, device: &Device) -> Result<()> {
        let Dims { head_dim, maps, .. } = self.dims;
        let registers = (maps * head_dim + (maps + 1) * self.settings.tile) / 2 + OTHER_REGISTERS;
        self.settings.check(registers, self.shared_memory(), device)
    }

    pub(crate) const fn query_tile(&self) -> Tile {
        self.dims.head_tile(RESIDENT)
    }

    pub(crate) const fn gradient_tile(&self) -> Tile {
        self.dims.gradient_tile(RESIDENT)
    }

    pub(crate) const fn key_tile(&self) -> Tile {
        self.dims.head_tile(self.settings.tile)
    }

    pub(crate) const fn value_tile(&self) -> Tile {
        self.dims.value_tile(self.settings.tile)
    }

    /// Where the gradients begin behind the queries.
    pub(crate) const fn gradients_at(&self) -> usize {
        self.dims.maps * self.query_tile().bytes()
    }

    pub(crate) fn layout(&self) -> Layout {
        let mut memory = Memory::new();
        let stages = self.settings.stages;
        let keys = self.dims.key_maps * self.key_tile().bytes();
        Layout {
            queries: memory.resident(self.gradients_at() + self.gradient_tile().bytes()),
            keys: memory.ring(stages, keys, READERS),
            values: memory.ring(stages, self.value_tile().bytes(), READERS),
            memory,
        }
    }

    /// Shared memory in bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        self.layout().memory.bytes()
    }

    /// `S = Q Kᵀ` of every map.
    pub(crate) const fn scores(&self) -> Product {
        let one = self.dims.product(self.settings.tile, self.dims.head_dim);
        one.each(self.dims.maps)
    }

    /// `dP = dO Vᵀ`.
    pub(crate) const fn weights(&self) -> Product {
        self.dims.product(self.settings.tile, self.dims.value_dim)
    }

    /// `dQ += dS K` of every map.
    pub(crate) const fn sums(&self) -> Product {
        let one = self.dims.product(self.dims.head_dim, self.settings.tile);
        one.each(self.dims.maps)
    }

    /// Columns of the widest result.
    pub(crate) const fn widest(&self) -> usize {
        let (sums, scores) = (self.dims.head_dim, self.settings.tile);
        if sums > scores { sums } else { scores }
    }
}
