//! The table of settings for the portable kernels.

use super::settings::{Plane, PortableSettings};
use crate::device::DeviceClass::{self, Gpu, Lavapipe, Nvidia};
use crate::kernels::table::{Fits, Row};
use crate::plan::Pass::{self, Forward, KeyValueGradient, QueryGradient};
use crate::problem::Problem;
use Plane::{Broadcast, Reduce};

const fn row(
    class: DeviceClass,
    pass: Pass,
    [maps, key_maps, head_dim, value_dim]: [usize; 4],
    sizes: [usize; 5],
    plane: Plane,
) -> Row<PortableSettings> {
    Row {
        class,
        pass,
        maps,
        key_maps,
        dims: [head_dim, value_dim],
        fits: Fits::UpTo,
        settings: PortableSettings::new(sizes, plane),
        measured: None,
    }
}

/// All default settings: at most 256 units and 32 KiB of shared memory. The first row that covers the problem and fits
/// the device is taken.
///
/// Lavapipe rows were chosen by time on lavapipe (Mesa 22.3, 2 cores, f32). Nvidia rows are those of which `tools/audit`
/// finds that no register is spilled, with the most multiply-adds a read of shared memory times rows of a tile, which
/// divide the reads of global memory. Gpu rows leave units of fewer registers room. Both await a measurement.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row<PortableSettings>] = &[
    //  class     pass            maps key  d    dv     rows cols  y  x chunk  plane
    row(Lavapipe, Forward,          [2, 2,  64, 128], [4, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, Forward,          [2, 2, 128, 256], [2, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, Forward,          [2, 2, 256, 256], [1, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, QueryGradient,    [2, 2,  64,  64], [4, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, QueryGradient,    [2, 2,  64, 128], [3, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, QueryGradient,    [2, 2, 256, 256], [1, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, KeyValueGradient, [2, 2,  64, 128], [3, 16,  8, 1,  0], Broadcast),
    row(Lavapipe, KeyValueGradient, [2, 2, 256, 256], [1, 16,  8, 1,  0], Broadcast),

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
    row(Nvidia,   KeyValueGradient, [2, 2, 256, 256], [1,  4,  6, 8, 32], Reduce),
];

/// Settings for a problem on a class of devices, best first.
pub(crate) fn rows(
    class: DeviceClass,
    pass: Pass,
    problem: &Problem,
) -> impl Iterator<Item = PortableSettings> {
    TABLE
        .iter()
        .filter(move |row| row.class == class && row.pass == pass && row.covers(problem))
        .map(|row| row.settings)
}
