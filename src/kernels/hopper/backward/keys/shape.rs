//! What is compiled into the kernel of the keys' and values' gradients, and what lies in shared memory.

use crate::kernels::hopper::backward::dims::{Dims, GradientSettings, READERS, RESIDENT, Tile};
use crate::kernels::hopper::memory::{Memory, Resident, RingPlace};
use crate::kernels::hopper::ptx::wgmma::Product;

/// Everything about a launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeysShape {
    pub dims: Dims,
    pub settings: GradientSettings,
    /// Which gradients are made: where registers do not suffice for both, there is a launch for each.
    pub key: bool,
    pub value: bool,
}

/// Where everything lies in shared memory.
pub(crate) struct Layout {
    /// Keys of every map, then values.
    pub keys: Resident,
    /// Queries of every map, then their statistics.
    pub queries: RingPlace,
    /// Of the output.
    pub gradients: RingPlace,
    pub memory: Memory,
}

/// Tiles begin at multiples of this.
const ALIGNMENT: usize = 1024;

impl KeysShape {
    pub(crate) const fn key_tile(&self) -> Tile {
        self.dims.head_tile(RESIDENT)
    }

    pub(crate) const fn value_tile(&self) -> Tile {
        self.dims.value_tile(RESIDENT)
    }

    pub(crate) const fn query_tile(&self) -> Tile {
        self.dims.head_tile(self.settings.tile)
    }

    pub(crate) const fn gradient_tile(&self) -> Tile {
        self.dims.gradient_tile(self.settings.tile)
    }

    /// Where values begin behind the keys.
    pub(crate) const fn values_at(&self) -> usize {
        self.dims.key_maps * self.key_tile().bytes()
    }

    /// Where the statistics begin behind the queries.
    pub(crate) const fn statistics_at(&self) -> usize {
        self.dims.maps * self.query_tile().bytes()
    }

    /// Numbers of the statistics of a tile.
    pub(crate) const fn statistics(&self) -> usize {
        self.dims.statistics() * self.settings.tile
    }

    pub(crate) fn layout(&self) -> Layout {
        let mut memory = Memory::new();
        let values = if self.key {
            self.value_tile().bytes()
        } else {
            0
        };
        let lands = self.statistics_at() + self.statistics() * size_of::<f32>();
        let stage = lands.next_multiple_of(ALIGNMENT);
        let stages = self.settings.stages;
        Layout {
            keys: memory.resident(self.values_at() + values),
            queries: memory.ring_of(stages, [stage, lands], READERS),
            gradients: memory.ring(stages, self.gradient_tile().bytes(), READERS),
            memory,
        }
    }

    /// Shared memory in bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        self.layout().memory.bytes()
    }

    /// `Sᵀ = K Qᵀ` of one map.
    pub(crate) const fn scores(&self) -> Product {
        self.dims.product(self.settings.tile, self.dims.head_dim)
    }

    /// `dPᵀ = V dOᵀ`.
    pub(crate) const fn weights(&self) -> Product {
        self.dims.product(self.settings.tile, self.dims.value_dim)
    }

    /// `dK += dSᵀ Q` of one map.
    pub(crate) const fn key_sums(&self) -> Product {
        self.dims.product(self.dims.head_dim, self.settings.tile)
    }

    /// `dV += Pᵀ dO`.
    pub(crate) const fn value_sums(&self) -> Product {
        self.dims.product(self.dims.value_dim, self.settings.tile)
    }
}
