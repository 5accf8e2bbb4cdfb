//! The table of settings for `mma.sync`.

use super::settings::MmaSettings;
use crate::device::DeviceClass;
use crate::kernels::table::{Fits, Row};
use crate::plan::Pass::{self, Forward, KeyValueGradient, QueryGradient};
use crate::problem::Problem;

const fn row(
    pass: Pass,
    maps: usize,
    dims: [usize; 2],
    sizes: [usize; 3],
    split: bool,
) -> Row<MmaSettings> {
    Row {
        class: DeviceClass::Nvidia,
        pass,
        maps,
        key_maps: maps,
        dims,
        fits: Fits::UpTo,
        settings: MmaSettings::new(sizes, split),
        measured: None,
    }
}

/// All default settings: those of which `tools/audit` finds that no register is spilled. The first row that covers the problem
/// and whose shared memory the device has is taken; for every problem of two maps there is one of at most 99 KiB, which all devices
/// of the family have. They await a measurement.
#[rustfmt::skip]
pub(super) const TABLE: &[Row<MmaSettings>] = &[
    //  pass          maps d    dv     tile warps stages split
    row(Forward,          1, [ 64, 128], [64, 4, 1], false),
    row(Forward,          1, [128, 128], [64, 4, 1], false),
    row(Forward,          1, [128, 256], [64, 4, 1], false),
    row(Forward,          1, [256, 256], [32, 4, 1], false),
    row(Forward,          2, [ 64, 128], [64, 4, 1], false),
    row(Forward,          2, [128, 128], [64, 8, 1], true),
    row(Forward,          2, [128, 256], [64, 8, 1], true),
    row(Forward,          2, [192, 128], [32, 8, 1], true),
    row(Forward,          2, [256, 256], [16, 8, 1], true),

    row(QueryGradient,    1, [ 64, 128], [64, 4, 1], false),
    row(QueryGradient,    1, [128, 256], [32, 4, 1], false),
    row(QueryGradient,    1, [192, 128], [16, 4, 1], false),
    row(QueryGradient,    2, [ 64, 128], [32, 4, 1], false),
    row(QueryGradient,    2, [128, 256], [32, 8, 1], true),
    row(QueryGradient,    2, [192, 128], [32, 8, 1], true),
    row(QueryGradient,    2, [256, 256], [16, 4, 1], true),

    row(KeyValueGradient, 1, [ 64, 128], [32, 4, 2], false),
    row(KeyValueGradient, 1, [128, 128], [32, 4, 1], false),
    row(KeyValueGradient, 1, [128, 256], [16, 4, 1], false),
    row(KeyValueGradient, 1, [192, 128], [16, 8, 1], false),
    row(KeyValueGradient, 2, [ 64, 128], [32, 4, 1], false),
    row(KeyValueGradient, 2, [128, 128], [32, 8, 1], true),
    row(KeyValueGradient, 2, [128, 256], [32, 8, 1], true),
    row(KeyValueGradient, 2, [128, 256], [16, 8, 1], true),
    row(KeyValueGradient, 2, [192, 128], [16, 8, 1], true),
    row(KeyValueGradient, 2, [256, 256], [16, 4, 1], true),
];

/// Settings for a problem, best known first. Those with a map for each of two warps are for two maps: a single one would have
/// all sums in one warp, and spill.
pub(super) fn rows(pass: Pass, problem: &Problem) -> impl Iterator<Item = MmaSettings> {
    let rows = TABLE.iter().filter(move |row| row.pass == pass);
    let shared_out = |row: &&Row<MmaSettings>| !row.settings.split || problem.maps == 2;
    rows.filter(shared_out)
        .filter(|row| row.covers(problem))
        .map(|row| row.settings)
}
