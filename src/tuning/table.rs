//! The table of settings.

use super::settings::{Pass, Plane, Settings};
use DeviceClass::{Gpu, Lavapipe};
use Pass::{Forward, KeyValueGradient, QueryGradient};
use Plane::{Reduce, Share};

/// Devices that want different settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceClass {
    /// Mesa's lavapipe: a plane is a CPU vector, and a read of memory costs one read for each unit.
    Lavapipe,
    /// Everything else.
    Gpu,
}

impl DeviceClass {
    /// The class of a device by its name.
    pub fn of(device: &str) -> Self {
        if device.contains("llvmpipe") {
            DeviceClass::Lavapipe
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
    [head_dim, value_dim]: [usize; 2],
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
        head_dim,
        value_dim,
        settings,
    }
}

/// All default settings: at most 256 units and 32 KiB of shared memory. The first row that covers the problem and fits
/// the device is taken.
///
/// Lavapipe rows were chosen by time on lavapipe (Mesa 22.3, 2 cores, f32). Gpu rows follow from register and
/// shared-memory counts and await a measurement.
#[rustfmt::skip]
const TABLE: &[Shipped] = &[
    //  class     pass              d    dv     rows cols  y  x chunk  plane
    row(Lavapipe, Forward,          [ 64, 128], [4, 16,  8, 1,  0], Share),
    row(Lavapipe, Forward,          [128, 256], [2, 16,  8, 1,  0], Share),
    row(Lavapipe, Forward,          [256, 256], [1, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [ 64,  64], [4, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [ 64, 128], [3, 16,  8, 1,  0], Share),
    row(Lavapipe, QueryGradient,    [256, 256], [1, 16,  8, 1,  0], Share),
    row(Lavapipe, KeyValueGradient, [ 64, 128], [3, 16,  8, 1,  0], Share),
    row(Lavapipe, KeyValueGradient, [256, 256], [1, 16,  8, 1,  0], Share),

    row(Gpu,      Forward,          [ 32,  64], [4,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [ 64, 128], [3,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [128, 256], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      Forward,          [256, 256], [1,  4,  8, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [ 32,  64], [4,  4,  8, 4, 32], Reduce),
    row(Gpu,      QueryGradient,    [ 64, 128], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [128, 256], [2,  4,  4, 8, 32], Reduce),
    row(Gpu,      QueryGradient,    [256, 256], [1,  4,  4, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [ 32,  64], [2,  4,  8, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [ 64, 128], [2,  4,  8, 4, 32], Reduce),
    row(Gpu,      KeyValueGradient, [128, 256], [2,  4,  4, 8, 32], Reduce),
    row(Gpu,      KeyValueGradient, [256, 256], [1,  4,  4, 8, 32], Reduce),
];

/// Settings for a problem on a class of devices, best first.
pub(crate) fn candidates(
    class: DeviceClass,
    pass: Pass,
    head_dim: usize,
    value_dim: usize,
) -> impl Iterator<Item = Settings> {
    shipped()
        .filter(move |row| row.class == class && row.pass == pass)
        .filter(move |row| head_dim <= row.head_dim && value_dim <= row.value_dim)
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
