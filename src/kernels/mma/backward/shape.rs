//! What is compiled into the backward kernels, and where everything lies in shared memory.

use crate::kernels::mma::dims::Dims;
use crate::kernels::mma::tile::Tile;
use crate::kernels::passes::statistics::planes::Planes;
use crate::kernels::warp::output::Writing;

/// The kernel for the query's gradient. In shared memory are the queries of every map and the gradients of their outputs, then
/// for each stage keys of every map and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QueryShape {
    pub dims: Dims,
    /// Write eight columns at once, not two.
    pub wide: bool,
}

impl QueryShape {
    pub(crate) const fn query(&self) -> Tile {
        self.dims.heads(self.dims.rows())
    }

    pub(crate) const fn grad(&self) -> Tile {
        Tile::new(self.dims.rows(), self.dims.value_dim)
    }

    pub(crate) const fn key(&self) -> Tile {
        self.dims.heads(self.dims.settings.tile)
    }

    pub(crate) const fn value(&self) -> Tile {
        self.dims.values(self.dims.settings.tile)
    }

    pub(crate) const fn writing(&self) -> Writing {
        Writing {
            half: self.dims.half,
            wide: self.wide,
        }
    }

    /// Where the gradients of the outputs begin.
    pub(crate) const fn grads(&self) -> usize {
        self.dims.maps * self.query().bytes()
    }

    /// Where the stages begin.
    pub(crate) const fn stages(&self) -> usize {
        self.grads() + self.grad().bytes()
    }

    /// Where in a stage the values begin.
    pub(crate) const fn values(&self) -> usize {
        self.dims.key_maps * self.key().bytes()
    }

    pub(crate) const fn stage(&self) -> usize {
        self.values() + self.value().bytes()
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        self.stages() + self.dims.settings.stages * self.stage()
    }
}

/// The kernel for the gradients of key and value. In shared memory are keys of every map and values, then for each stage
/// queries of every map, gradients of their outputs and their statistics, last what two warps exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyValueShape {
    pub dims: Dims,
    /// Pieces of a gradient of a value that lie apart: 1 or 2.
    pub grad_parts: usize,
    /// Write eight columns at once, not two.
    pub wide_key: bool,
    pub wide_value: bool,
}

impl KeyValueShape {
    pub(crate) const fn key(&self) -> Tile {
        self.dims.heads(self.dims.rows())
    }

    pub(crate) const fn value(&self) -> Tile {
        self.dims.values(self.dims.rows())
    }

    pub(crate) const fn query(&self) -> Tile {
        self.dims.heads(self.dims.settings.tile)
    }

    /// A tile of gradients of the output, of which a warp may want half of the columns.
    pub(crate) const fn grad(&self) -> Tile {
        let dims = &self.dims;
        Tile::divided(dims.settings.tile, dims.value_dim, self.kept_values())
    }

    pub(crate) const fn key_writing(&self) -> Writing {
        Writing {
            half: self.dims.half,
            wide: self.wide_key,
        }
    }

    pub(crate) const fn value_writing(&self) -> Writing {
        Writing {
            half: self.dims.half,
            wide: self.wide_value,
        }
    }

    /// Columns of the value's gradient that a warp sums: with a map each, each of two has half.
    pub(crate) const fn kept_values(&self) -> usize {
        if self.dims.splits() {
            self.dims.value_dim / 2
        } else {
            self.dims.value_dim
        }
    }

    /// Maps of the key's gradient that a warp sums: where both share the key, one.
    pub(crate) const fn kept_keys(&self) -> usize {
        if self.dims.key_maps == 1 {
            1
        } else {
            self.dims.warp_maps()
        }
    }

    /// Statistics of a query.
    pub(crate) const fn planes(&self) -> Planes {
        Planes {
            maps: self.dims.maps,
        }
    }

    /// Where the values begin.
    pub(crate) const fn values(&self) -> usize {
        self.dims.key_maps * self.key().bytes()
    }

    /// Where the stages begin.
    pub(crate) const fn stages(&self) -> usize {
        self.values() + self.value().bytes()
    }

    /// Where in a stage the gradients of outputs begin.
    pub(crate) const fn grads(&self) -> usize {
        self.dims.maps * self.query().bytes()
    }

    /// Where in a stage the statistics begin.
    pub(crate) const fn statistics(&self) -> usize {
        self.grads() + self.grad().bytes()
    }

    /// Bytes of a stage, which begins at a multiple of 128.
    pub(crate) const fn stage(&self) -> usize {
        let statistics = self.planes().count() * self.dims.settings.tile * size_of::<f32>();
        (self.statistics() + statistics).next_multiple_of(128)
    }

    /// Where the exchange begins.
    pub(crate) const fn exchange(&self) -> usize {
        self.stages() + self.dims.settings.stages * self.stage()
    }

    /// What a warp hands over: the weights of its 16 keys.
    pub(crate) const fn exchange_bytes(&self) -> usize {
        16 * self.dims.settings.tile * size_of::<f32>()
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        let exchanges = if self.dims.splits() {
            self.dims.settings.warps
        } else {
            0
        };
        self.exchange() + exchanges * self.exchange_bytes()
    }
}
