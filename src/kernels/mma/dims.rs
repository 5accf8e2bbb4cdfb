//! What of a problem is compiled into every kernel of the family.

use super::settings::MmaSettings;
use super::tile::Tile;
use crate::kernels::warp::ptx::Half;
use crate::math::mask::Sides;

/// Dimensions, maps, types, and how the work is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dims {
    pub settings: MmaSettings,
    pub head_dim: usize,
    pub value_dim: usize,
    pub maps: usize,
    pub key_maps: usize,
    /// Pieces of a value that lie apart: 1 or 2.
    pub value_parts: usize,
    pub half: Half,
    pub sides: Sides,
}

impl Dims {
    /// Maps of a warp.
    pub(crate) const fn warp_maps(&self) -> usize {
        if self.splits() { 1 } else { self.maps }
    }

    /// Whether two warps share their rows and have a map each.
    pub(crate) const fn splits(&self) -> bool {
        self.settings.splits(self.maps)
    }

    /// Rows of a cube.
    pub(crate) const fn rows(&self) -> usize {
        self.settings.rows(self.maps)
    }

    pub(crate) const fn threads(&self) -> usize {
        self.settings.threads()
    }

    /// A tile of queries, or of keys, of one map.
    pub(crate) const fn heads(&self, rows: usize) -> Tile {
        Tile::new(rows, self.head_dim)
    }

    /// A tile of values.
    pub(crate) const fn values(&self, rows: usize) -> Tile {
        Tile::in_parts(rows, self.value_dim, self.value_parts)
    }

    /// The map of a key for one of the query.
    pub(crate) const fn key_map(&self, map: usize) -> usize {
        if self.key_maps == 1 { 0 } else { map }
    }
}
