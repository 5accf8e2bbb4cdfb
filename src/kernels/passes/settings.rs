//! Settings of the passes that belong to no family. They are a few per cent of a call, so one row does for all devices.

use super::statistics::shape::RowsShape;
use crate::device::Device;
use crate::math::reduce::Exchange;
use crate::problem::Problem;

/// Units of a cube of the row statistics.
const STATISTICS_UNITS: usize = 64;
/// Groups of rows that such a cube works on, one after the other.
const STATISTICS_STEPS: usize = 2;
/// Columns of the value from which on a row has eight units instead of four: more than 32 columns a unit would not fit its
/// registers.
const WIDE_VALUE: usize = 128;

/// Terms from which on a cube works on one sum.
pub(crate) const LONG_SUM: usize = 32;
/// Terms that a cube of a long sum takes before another slice is worth its second launch.
pub(crate) const SLICE: usize = 4096;

/// What is compiled into the kernel of the row statistics.
pub(crate) fn statistics(problem: &Problem, gamma: bool, device: &Device) -> RowsShape {
    let units_x = if problem.value_dim > WIDE_VALUE { 8 } else { 4 };
    let shuffles = device.planes && device.plane_min >= units_x;
    RowsShape {
        units_x,
        units_y: STATISTICS_UNITS / units_x,
        steps: STATISTICS_STEPS,
        value_dim4: problem.value_dim / 4,
        maps: problem.maps,
        norm: problem.norm.is_some(),
        gamma,
        exchange: if shuffles {
            Exchange::Plane
        } else {
            Exchange::Shared
        },
    }
}
