//! Settings of the portable kernels, and the tile that they make on a device.

use core::fmt;
use core::str::FromStr;

use super::tile::Tile;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::names;
use crate::math::reduce::Exchange;

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
    Broadcast,
}

/// Tile and register sizes of one launch of a portable kernel.
///
/// A cube of `units_y × units_x` units works on a tile of `rows · units_y` rows and `cols · units_x` columns; every unit
/// holds `rows × cols` scores for each map. Its [`Display`](fmt::Display) form, `r3c4y8x8k32-reduce`, is its name
/// wherever settings are reported, and can be parsed.
///
/// ```
/// use diff_flash_attn::tuning::{Plane, PortableSettings};
/// let settings = PortableSettings::new([3, 4, 8, 8, 32], Plane::Reduce);
/// assert_eq!("r3c4y8x8k32-reduce".parse(), Ok(settings));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PortableSettings {
    /// Rows of one unit.
    pub rows: usize,
    /// Columns of one unit, a multiple of 4.
    pub cols: usize,
    /// Units along the rows of the tile.
    pub units_y: usize,
    /// Units along its columns.
    pub units_x: usize,
    /// Columns of the head dimension in shared memory at once, a multiple of `4 · units_x`. 0 with [`Plane::Broadcast`].
    pub chunk: usize,
    /// Use of plane operations.
    pub plane: Plane,
}

impl fmt::Display for PortableSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortableSettings {
            rows,
            cols,
            units_y,
            units_x,
            chunk,
            plane,
        } = self;
        let suffix = PLANES.iter().find(|(of, _)| of == plane);
        let plane = suffix.map_or("", |(_, suffix)| suffix);
        write!(f, "r{rows}c{cols}y{units_y}x{units_x}k{chunk}{plane}")
    }
}

/// What [`Plane`]s are called in the name of settings.
const PLANES: [(Plane, &str); 3] = [
    (Plane::Unused, ""),
    (Plane::Reduce, "-reduce"),
    (Plane::Broadcast, "-broadcast"),
];

impl FromStr for PortableSettings {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (sizes, plane) = name.split_at(name.find('-').unwrap_or(name.len()));
        let plane = PLANES.iter().find(|(_, suffix)| *suffix == plane);
        let sizes = names::numbers(sizes, ["r", "c", "y", "x", "k"]);
        match (sizes, plane) {
            (Some(sizes), Some((plane, _))) => Ok(Self::new(sizes, *plane)),
            _ => Err(names::unknown(
                name,
                "like r3c4y8x8k32 or r3c4y8x8k32-reduce",
            )),
        }
    }
}

impl PortableSettings {
    /// Settings of those sizes, in the order of the fields.
    pub const fn new([rows, cols, units_y, units_x, chunk]: [usize; 5], plane: Plane) -> Self {
        Self {
            rows,
            cols,
            units_y,
            units_x,
            chunk,
            plane,
        }
    }

    /// The same as a device can run it: without planes where it has none.
    pub(crate) fn adapted(self, device: &Device) -> Self {
        let reduces = device.planes && self.units_x <= device.plane_min;
        match self.plane {
            Plane::Reduce if !reduces => Self {
                plane: Plane::Unused,
                ..self
            },
            _ => self,
        }
    }

    /// The tile that these settings make on a device.
    pub(crate) fn tile(&self, device: &Device) -> Result<Tile> {
        self.check_shape()?;
        let units = self.units_x.saturating_mul(self.units_y);
        device.check("units of a cube", units, device.units)?;
        let (exchange, plane) = match (self.plane, self.units_x) {
            (Plane::Broadcast, _) => (Exchange::Own, self.broadcasting_plane(device)?),
            (_, 1) => (Exchange::Own, 0),
            (Plane::Reduce, _) => (self.reducing_plane(device)?, 0),
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
        let PortableSettings {
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
        let staged = self.plane != Plane::Broadcast;
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

    fn broadcasting_plane(&self, device: &Device) -> Result<usize> {
        let fixed = device.plane_min == device.plane_max && device.plane_min > 1;
        if self.units_x != 1 {
            return Err(self.refuse("sharing reads in a plane needs units_x = 1"));
        }
        if !fixed || !self.units_y.is_multiple_of(device.plane_min) {
            let problem = format!(
                "needs planes of one size that divides {} units",
                self.units_y
            );
            return Err(self.refuse(&problem));
        }
        Ok(device.plane_min)
    }

    fn reducing_plane(&self, device: &Device) -> Result<Exchange> {
        if !self.units_x.is_power_of_two() || self.units_x > device.plane_min {
            let problem = format!(
                "reducing in a plane needs units_x to be a power of two up to {}",
                device.plane_min
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
