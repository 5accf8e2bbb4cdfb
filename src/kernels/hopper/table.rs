//! The table of settings for compute capability 9.0.

use super::settings::HopperSettings;
use crate::device::DeviceClass;
use crate::kernels::table::{Fits, MaskKind, Row};
use crate::plan::Pass;
use crate::problem::Problem;
use MaskKind::{Causal, Full, Window};

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
pub(super) const TABLE: &[Row<HopperSettings>] = &[
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

/// Settings for a problem, if the table has its dimensions.
pub(super) fn settings(problem: &Problem) -> Option<HopperSettings> {
    let row = TABLE.iter().find(|row| row.covers(problem))?;
    Some(row.settings)
}
