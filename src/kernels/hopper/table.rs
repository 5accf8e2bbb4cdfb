//! The table of settings for compute capability 9.0.

use super::settings::HopperSettings;
use crate::device::DeviceClass;
use crate::kernels::table::{Fits, MaskKind, Row};
use crate::plan::Pass;
use crate::problem::Problem;
use MaskKind::{Causal, Full, Window};
use Pass::{KeyValueGradient, QueryGradient};

/// A row, for a key of each map or a shared one, and for f16 and bf16 alike, which take as many bytes, registers and cycles
/// of the tensor cores.
const fn row(
    maps: usize,
    dims: [usize; 2],
    mask: MaskKind,
    sizes: [usize; 6],
    turns: bool,
) -> Row<HopperSettings> {
    Row {
        class: DeviceClass::Nvidia,
        pass: Pass::Forward,
        maps,
        key_maps: maps,
        dims,
        fits: Fits::Exactly(mask),
        settings: HopperSettings::new(sizes, true, turns),
        measured: None,
    }
}

/// All default settings: wide tiles whose registers and shared memory suffice, softmax and products overlapped. Turns where
/// exponentials are many for the products that hide them, that is where the value dimension is small. They await a
/// measurement.
#[rustfmt::skip]
const TABLE: &[Row<HopperSettings>] = &[
    //  maps d    dv     mask    keys  k  v  w  c  regs  turns
    row(2, [128, 256], Full,   [ 80, 2, 2, 2, 2, 240], false),
    row(2, [128, 256], Causal, [ 80, 2, 2, 2, 2, 240], false),
    row(2, [128, 256], Window, [ 80, 2, 2, 2, 2, 240], false),
    row(2, [ 64, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Full,   [112, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Causal, [112, 2, 2, 2, 2, 240], true),
    row(2, [128, 128], Window, [112, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Full,   [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Causal, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 64,  64], Window, [128, 2, 2, 2, 2, 240], true),
    row(2, [ 96, 192], Full,   [ 96, 2, 2, 2, 2, 240], false),
    row(2, [ 96, 192], Causal, [ 96, 2, 2, 2, 2, 240], false),
    row(2, [ 96, 192], Window, [ 96, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Full,   [ 80, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Causal, [ 80, 2, 2, 2, 2, 240], false),
    row(1, [128, 256], Window, [ 80, 2, 2, 2, 2, 240], false),
    row(1, [ 64, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [128, 128], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Full,   [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Causal, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 64,  64], Window, [128, 2, 2, 2, 2, 240], true),
    row(1, [ 96, 192], Full,   [ 96, 2, 2, 2, 2, 240], false),
    row(1, [ 96, 192], Causal, [ 96, 2, 2, 2, 2, 240], false),
    row(1, [ 96, 192], Window, [ 96, 2, 2, 2, 2, 240], false),
];

/// A row of a gradient pass: so many rows of a tile that streams by, for every kind of mask.
const fn gradient(
    pass: Pass,
    maps: usize,
    dims: [usize; 2],
    tile: usize,
) -> [Row<HopperSettings>; 3] {
    let sizes = [tile, 2, 2, 2, 1, 240];
    let mut rows = [
        row(maps, dims, Full, sizes, false),
        row(maps, dims, Causal, sizes, false),
        row(maps, dims, Window, sizes, false),
    ];
    rows[0].pass = pass;
    rows[1].pass = pass;
    rows[2].pass = pass;
    rows
}

/// Default settings of the gradients: the widest tiles whose sums, scores and weights fit registers. They await a
/// measurement.
#[rustfmt::skip]
const GRADIENTS: &[[Row<HopperSettings>; 3]] = &[
    gradient(KeyValueGradient, 2, [128, 256], 32),
    gradient(KeyValueGradient, 2, [ 64, 128], 32),
    gradient(KeyValueGradient, 2, [128, 128], 32),
    gradient(KeyValueGradient, 2, [ 64,  64], 48),
    gradient(KeyValueGradient, 2, [ 96, 192], 48),
    gradient(KeyValueGradient, 1, [128, 256], 64),
    gradient(KeyValueGradient, 1, [ 64, 128], 64),
    gradient(KeyValueGradient, 1, [128, 128], 64),
    gradient(KeyValueGradient, 1, [ 64,  64], 64),
    gradient(KeyValueGradient, 1, [ 96, 192], 48),
    gradient(QueryGradient,    2, [128, 256], 32),
    gradient(QueryGradient,    2, [ 64, 128], 80),
    gradient(QueryGradient,    2, [128, 128], 32),
    gradient(QueryGradient,    2, [ 64,  64], 80),
    gradient(QueryGradient,    2, [ 96, 192], 48),
    gradient(QueryGradient,    1, [128, 256], 64),
    gradient(QueryGradient,    1, [ 64, 128], 96),
    gradient(QueryGradient,    1, [128, 128], 96),
    gradient(QueryGradient,    1, [ 64,  64], 96),
    gradient(QueryGradient,    1, [ 96, 192], 64),
];

/// Every row.
pub(super) fn rows() -> impl Iterator<Item = &'static Row<HopperSettings>> {
    TABLE.iter().chain(GRADIENTS.iter().flatten())
}

/// Settings of a pass for a problem, if the table has its dimensions.
pub(super) fn settings(pass: Pass, problem: &Problem) -> Option<HopperSettings> {
    let row = rows().find(|row| row.pass == pass && row.covers(problem))?;
    Some(row.settings)
}
