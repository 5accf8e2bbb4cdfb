//! The table of settings.

use cubecl::prelude::*;

use super::settings::{Pass, Plane, Settings};
use crate::problem::Problem;
use DeviceClass::{Gpu, Lavapipe, Nvidia};
use Pass::{Forward, KeyValueGradient, QueryGradient};
use Plane::{Reduce, Share};

/// Devices that want different settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceClass {
    /// Mesa's lavapipe: a plane is a CPU vector, and a read of memory costs one read for each unit.
    Lavapipe,
    /// NVIDIA's GPUs, through CUDA or Vulkan: a unit can have 255 registers.
    Nvidia,
    /// Everything else.
    Gpu,
}

impl DeviceClass {
    /// The class of a client's device.
    pub fn of(client: &Client) -> Self {
        let name = &client.properties().identity.name;
        if name.contains("llvmpipe") {
            DeviceClass::Lavapipe
        } else if client.name().starts_with("cuda") || name.contains("NVIDIA") {
            DeviceClass::Nvidia
        } else {
            DeviceClass::Gpu
        }
    }
}

/// One default: settings of a kernel for heads up to a size on a class of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// Devices it is for.
    pub class: DeviceClass,
    /// Kernel it is for.
    pub pass: Pass,
    /// Greatest number of attention maps.
    pub maps: usize,
    /// Greatest number of the key's maps: 1 if the attention maps share it.
    pub key_maps: usize,
    /// Greatest head dimension.
    pub head_dim: usize,
    /// Greatest value dimension.
    pub value_dim: usize,
    /// The settings.
    pub settings: Settings,
}

const fn row(
    class: DeviceClass,
    pass: Pass,
    [maps, key_maps, head_dim, value_dim]: [usize; 4],
    [rows, cols, units_y, units_x, chunk]: [usize; 5],
    plane: Plane,
) -> Shipped {
    let settings = Settings {
        rows,
        cols,
        units_y,
        units_x,
        chunk,
        plane,
    };
    Shipped {
        class,
        pass,
        maps,
        key_maps,
        head_dim,
        value_dim,
        settings,
    }
}

/// All default settings: at most 256 units and 32 KiB of shared memory. The first row that covers the problem and fits
/// the device is taken.
///
/// Lavapipe rows were chosen by time on lavapipe (Mesa 22.3, 2 cores, f32). Nvidia rows are those of which `tools/audit`
/// finds that no register is spilled, with the most multiply-adds a read of shared memory times rows of a tile, which
/// divide the reads of global memory. Gpu rows leave units of fewer registers room. Both await a measurement.
#[rustfmt::skip]
const TABLE: &[Shipped] = &[
    //  class     pass            maps key  d    dv     rows cols  y  x chunk  plane
    row(Lavapipe, Forward,          [2, 2,  64, 128], [4, 16,  8, 1,  0], Share),
    row(Lavapipe, Forward,          [2, 2, 128, 256], [2, 16,  8, 1,  0], Share),
    row(Lavapipe, Forward,          [2, 2, 256, 256], [1, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [2, 2,  64,  64], [4, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [2, 2,  64, 128], [3, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [2, 2, 256, 256], [1, 16,  8, 1,  0], Share),
    row(Lavapipe, KeyValueGradient, [2, 2,  64, 128], [3, 16,  8, 1,  0], Share),
    row(Lavapipe, KeyValueGradient, [2, 2, 256, 256], [1, 16,  8, 1,  0], Share),

    row(Gpu,      Forward,          [2, 2,  32,  64], [4,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [2, 2,  64, 128], [3,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [2, 2, 128, 256], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [2, 2, 256, 256], [1,  4,  8, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [2, 2,  32,  64], [4,  4,  8, 4, 32], Reduce),
    row(Gpu,      QueryGradient,    [2, 2,  64, 128], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [2, 2, 128, 256], [2,  4,  4, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [2, 2, 256, 256], [1,  4,  4, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [2, 2,  32,  64], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [2, 2,  64, 128], [2,  4,  8, 4, 32], Reduce),
    row(Gpu,      KeyValueGradient, [2, 2, 128, 256], [2,  4,  4, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [2, 2, 256, 256], [1,  4,  4, 8, 32], Reduce),

    row(Nvidia,   Forward,          [1, 1,  32,  64], [6,  8, 16, 4, 16], Reduce),
    row(Nvidia,   Forward,          [1, 1,  64,  64], [5,  4, 16, 4, 16], Reduce),
    row(Nvidia,   Forward,          [1, 1,  64, 128], [5,  4, 16, 4, 32], Reduce),
    row(Nvidia,   Forward,          [1, 1,  96, 192], [4,  4, 12, 8, 32], Reduce),
    row(Nvidia,   Forward,          [1, 1, 128, 128], [5,  4,  8, 8, 32], Reduce),
    row(Nvidia,   Forward,          [1, 1, 128, 256], [4,  4,  8, 8, 32], Reduce),
    row(Nvidia,   Forward,          [1, 1, 256, 256], [2,  4,  8, 8, 32], Reduce),
    row(Nvidia,   Forward,          [2, 2,  32,  64], [4,  4, 16, 4, 16], Reduce),
    row(Nvidia,   Forward,          [2, 2,  64,  64], [4,  4,  8, 4, 16], Reduce),
    row(Nvidia,   Forward,          [2, 2,  64, 128], [4,  4,  4, 8, 32], Reduce),
    row(Nvidia,   Forward,          [2, 2,  96, 192], [3,  4,  4, 8, 64], Reduce),
    row(Nvidia,   Forward,          [2, 2, 128, 128], [4,  4,  4, 8, 32], Reduce),
    row(Nvidia,   Forward,          [2, 2, 128, 256], [2,  4,  8, 8, 32], Reduce),
    row(Nvidia,   Forward,          [2, 2, 256, 256], [1,  4,  8, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1,  32,  64], [6,  8,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1,  64,  64], [6,  4,  8, 4, 32], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1,  64, 128], [4,  8,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1,  96, 192], [5,  4,  4, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1, 128, 128], [3,  8,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1, 128, 256], [4,  4,  4, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [1, 1, 256, 256], [4,  4,  3, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2,  32,  64], [5,  4,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2,  64,  64], [5,  4,  4, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2,  64, 128], [3,  4,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2,  96, 192], [4,  4,  3, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2, 128, 128], [2,  4,  8, 4, 16], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2, 128, 256], [3,  4,  3, 8, 32], Reduce),
    row(Nvidia,   QueryGradient,    [2, 2, 256, 256], [1,  4,  8, 4, 16], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1,  32,  64], [5,  4,  8, 4, 16], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1,  64,  64], [4,  4,  8, 4, 16], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1,  64, 128], [5,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1,  96, 192], [4,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1, 128, 128], [4,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1, 128, 256], [3,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [1, 1, 256, 256], [2,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2,  32,  64], [4,  4,  8, 4, 16], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2,  64,  64], [3,  4,  8, 4, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2,  64, 128], [2,  4,  8, 4, 16], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2,  96, 192], [3,  4,  3, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2, 128, 128], [3,  4,  3, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 1, 128, 256], [3,  4,  3, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2, 128, 256], [2,  4,  4, 8, 32], Reduce),
    row(Nvidia,   KeyValueGradient, [2, 2, 256, 256], [1,  4,  6, 4, 16], Reduce),
];

impl Shipped {
    /// Whether it is for a problem of so many maps, maps of the key, head and value dimensions.
    pub fn covers(&self, [maps, key_maps, head_dim, value_dim]: [usize; 4]) -> bool {
        maps <= self.maps
            && key_maps <= self.key_maps
            && head_dim <= self.head_dim
            && value_dim <= self.value_dim
    }
}

/// Settings for a problem on a class of devices, best first.
pub(crate) fn candidates(
    class: DeviceClass,
    pass: Pass,
    problem: &Problem,
) -> impl Iterator<Item = Settings> {
    let dims = [
        problem.maps,
        problem.key_maps(),
        problem.head_dim,
        problem.value_dim,
    ];
    shipped()
        .filter(move |row| row.class == class && row.pass == pass && row.covers(dims))
        .map(|row| row.settings)
}

/// All default settings.
///
/// ```
/// use diff_flash_attn::tuning::{Pass, shipped};
/// for row in shipped().filter(|row| row.pass == Pass::Forward) {
///     println!("{:?} up to d {} dv {}: {}", row.class, row.head_dim, row.value_dim, row.settings);
/// }
/// ```
pub fn shipped() -> impl Iterator<Item = Shipped> {
    TABLE.iter().copied()
}
