//! Settings of a kernel launch.

use crate::error::{Error, Result};
use crate::kernels::portable::tile::Tile;
use crate::math::reduce::Exchange;
use crate::tuning::Limits;

/// The kernels that have settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Output from inputs; rows of a tile are queries, columns are keys.
    Forward,
    /// Gradient of the query; rows are queries, columns are keys.
    QueryGradient,
    /// Gradients of key and value; rows are keys, columns are queries.
    KeyValueGradient,
}

impl core::fmt::Display for Pass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward",
            Pass::QueryGradient => "query-gradient",
            Pass::KeyValueGradient => "key-value-gradient",
        })
    }
}

/// The forward kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// For every device and every problem.
    Portable,
    /// For f16 and bf16 through CUDA on compute capability 9.0 (H100, H200), with the dimensions of its table. Every
    /// stride and the start of query, key and value must be a multiple of 16 bytes. Needs the feature `hopper`, which
    /// `cuda` includes.
    Hopper,
}

impl core::fmt::Display for Schedule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Schedule::Portable => "portable",
            Schedule::Hopper => "hopper",
        })
    }
}

/// What a kernel does with plane (subgroup, warp) operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Nothing: units of a row exchange values through shared memory.
    Unused,
    /// Units of a row exchange values by shuffles. Needs `units_x` to be a power of two that planes hold.
    Reduce,
    /// The units of a plane share their reads of global memory by broadcasts, and nothing but the resident operand goes
    /// through shared memory. Needs `units_x = 1`, planes of one fixed size, and a number of units that they divide.
    /// Pays on CPU drivers, where a read by a plane costs one read for each unit.
    Share,
}

/// Tile and register sizes of one kernel launch.
///
/// A cube of `units_y × units_x` units works on a tile of `rows · units_y` rows and `cols · units_x` columns; every unit
/// holds `rows × cols` scores for each map. Its [`Display`](core::fmt::Display) form, `r3c4y8x8k32-reduce`, is its name
/// wherever settings are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Rows of one unit.
    pub rows: usize,
    /// Columns of one unit, a multiple of 4.
    pub cols: usize,
    /// Units along the rows of the tile.
    pub units_y: usize,
    /// Units along its columns.
    pub units_x: usize,
    /// Columns of the head dimension in shared memory at once, a multiple of `4 · units_x`. 0 with [`Plane::Share`].
    pub chunk: usize,
    /// Use of plane operations.
    pub plane: Plane,
}

impl core::fmt::Display for Settings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Settings {
            rows,
            cols,
            units_y,
            units_x,
            chunk,
            plane,
        } = self;
        let plane = match plane {
            Plane::Unused => "",
            Plane::Reduce => "-reduce",
            Plane::Share => "-share",
        };
        write!(f, "r{rows}c{cols}y{units_y}x{units_x}k{chunk}{plane}")
    }
}

impl Settings {
    /// The tile that these settings make on a device.
    pub(crate) fn tile(&self, limits: &Limits) -> Result<Tile> {
        self.check_shape()?;
        let units = self.units_x.saturating_mul(self.units_y);
        limits.check("units of a cube", units, limits.units)?;
        let (exchange, plane) = match (self.plane, self.units_x) {
            (Plane::Share, _) => (Exchange::Own, self.shared_plane(limits)?),
            (_, 1) => (Exchange::Own, 0),
            (Plane::Reduce, _) => (self.reducing_plane(limits)?, 0),
            (Plane::Unused, _) => (Exchange::Shared, 0),
        };
        Ok(Tile {
            rows: self.rows,
            cols: self.cols,
            units_y: self.units_y,
            units_x: self.units_x,
            chunk4: if plane == 0 { self.chunk / 4 } else { 1 },
            plane,
            exchange,
        })
    }

    fn check_shape(&self) -> Result<()> {
        let Settings {
            rows,
            cols,
            units_y,
            units_x,
            chunk,
            ..
        } = *self;
        if [rows, cols, units_y, units_x].contains(&0) {
            return Err(self.refuse("a size is zero"));
        }
        // Far beyond any device, and small enough for products of all of them.
        if [rows, cols, chunk].into_iter().max() > Some(1024) {
            return Err(self.refuse("rows, cols or chunk is above 1024"));
        }
        if !cols.is_multiple_of(4) {
            return Err(self.refuse("cols is no multiple of 4"));
        }
        let staged = self.plane != Plane::Share;
        if staged && (chunk == 0 || !chunk.is_multiple_of(units_x.saturating_mul(4))) {
            return Err(self.refuse("chunk is no multiple of 4 · units_x"));
        }
        if !staged && chunk != 0 {
            return Err(self.refuse(
                "nothing is staged in chunks where planes share their reads: chunk must be 0",
            ));
        }
        Ok(())
    }

    fn shared_plane(&self, limits: &Limits) -> Result<usize> {
        let fixed = limits.plane_min == limits.plane_max && limits.plane_min > 1;
        if self.units_x != 1 {
            return Err(self.refuse("sharing reads in a plane needs units_x = 1"));
        }
        if !fixed || !self.units_y.is_multiple_of(limits.plane_min) {
            let problem = format!(
                "needs planes of one size that divides {} units",
                self.units_y
            );
            return Err(self.refuse(&problem));
        }
        Ok(limits.plane_min)
    }

    fn reducing_plane(&self, limits: &Limits) -> Result<Exchange> {
        if !self.units_x.is_power_of_two() || self.units_x > limits.plane_min {
            let problem = format!(
                "reducing in a plane needs units_x to be a power of two up to {}",
                limits.plane_min
            );
            return Err(self.refuse(&problem));
        }
        Ok(Exchange::Plane)
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Settings {
            settings: self.to_string(),
            problem: problem.to_string(),
        }
    }
}
