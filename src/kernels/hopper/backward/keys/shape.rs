//! What is compiled into the kernel of the keys' and values' gradients, and what lies in shared memory.

use crate::device::Device;
use crate::error::Result;
use crate::kernels::hopper::backward::dims::{
    Dims, GradientSettings, OTHER_REGISTERS, READERS, RESIDENT, Tile,
};
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

/// The most numbers along an axis of what TMA copies at once.
const MOST_NUMBERS: usize = 256;

/// Rows of the tiles of a launch that makes the values' gradient alone: the most that registers suffice for.
const VALUE_TILES: [usize; 3] = [64, 48, 32];

impl KeysShape {
    /// One launch for both gradients if registers suffice, or one for each.
    pub(crate) fn all(
        dims: Dims,
        settings: GradientSettings,
        device: &Device,
    ) -> Result<Vec<KeysShape>> {
        let shape = |settings, key, value| KeysShape {
            dims,
            settings,
            key,
            value,
        };
        let both = shape(settings, true, true);
        let shapes = if both.registers() <= settings.registers {
            vec![both]
        } else {
            let values = VALUE_TILES.map(|tile| GradientSettings { tile, ..settings });
            let mut values = values
                .map(|settings| shape(settings, false, true))
                .into_iter();
            let fits = |shape: &KeysShape| shape.registers() <= settings.registers;
            let value = values.clone().find(fits).or(values.next_back());
            value
                .into_iter()
                .chain([shape(settings, true, false)])
                .collect()
        };
        for shape in &shapes {
            device.check("numbers of a box", shape.statistics(), MOST_NUMBERS)?;
            settings.check(shape.registers(), shape.shared_memory(), device)?;
        }
        Ok(shapes)
    }

    /// Registers of a computing thread: sums, the scores of every map, dP beside them, and the weights that are multiplied
    /// meanwhile.
    fn registers(&self) -> usize {
        let Dims {
            head_dim,
            value_dim,
            maps,
            key_maps,
            ..
        } = self.dims;
        let keys = if self.key { key_maps * head_dim } else { 0 };
        let values = if self.value { value_dim } else { 0 };
        let tile = self.settings.tile;
        let scores = (maps + usize::from(self.key)) * tile;
        let weights = if self.value { tile / 4 } else { 0 };
        (keys + values + scores) / 2 + weights + OTHER_REGISTERS
    }

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

    /// `Sᵀ = K Qᵀ` of every map.
    pub(crate) const fn scores(&self) -> Product {
        let one = self.dims.product(self.settings.tile, self.dims.head_dim);
        one.each(self.dims.maps)
    }

    /// `dPᵀ = V dOᵀ`.
    pub(crate) const fn weights(&self) -> Product {
        self.dims.product(self.settings.tile, self.dims.value_dim)
    }

    /// `dK += dSᵀ Q` of every map; where they share a key, all of it in one sum.
    pub(crate) const fn key_sums(&self) -> Product {
        let one = self.dims.product(self.dims.head_dim, self.settings.tile);
        if self.dims.key_maps == self.dims.maps {
            one.each(self.dims.maps)
        } else {
            one.sum(self.dims.maps)
        }
    }

    /// Columns of the widest result.
    pub(crate) const fn widest(&self) -> usize {
        let key = if self.key { self.dims.head_dim } else { 0 };
        let value = if self.value { self.dims.value_dim } else { 0 };
        let sums = if key > value { key } else { value };
        if sums > self.settings.tile {
            sums
        } else {
            self.settings.tile
        }
    }

    /// `dV += Pᵀ dO`.
    pub(crate) const fn value_sums(&self) -> Product {
        self.dims.product(self.dims.value_dim, self.settings.tile)
    }
}
