//! Sums and maxima over the units that share a row.

use cubecl::prelude::*;

/// How the units that share a row exchange values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Exchange {
    /// The row belongs to one unit.
    Own,
    /// Butterfly of plane shuffles among neighbouring units.
    Plane,
    /// Through shared memory.
    Shared,
}

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Sum,
    Max,
}

#[cube]
fn combine(a: f32, b: f32, #[comptime] op: Op) -> f32 {
    match comptime!(op) {
        Op::Sum => a + b,
        Op::Max => max(a, b),
    }
}

/// Reduces each of `n` values over the `width` neighbouring units that share rows; every unit gets the results.
///
/// `scratch` holds `units · n` values. All units of the cube take part: it synchronises them in shared exchange.
#[cube]
pub(crate) fn reduce_rows(
    values: &mut Array<f32>,
    scratch: &mut Shared<[f32]>,
    #[comptime] n: usize,
    #[comptime] width: usize,
    #[comptime] exchange: Exchange,
    #[comptime] op: Op,
) {
    match comptime!(exchange) {
        Exchange::Own => {}
        Exchange::Plane =>
        {
            #[unroll]
            for i in 0..n {
                let mut value = values[i];
                #[unroll]
                for step in 0..comptime!(width.ilog2()) {
                    let other = plane_shuffle_xor(value, comptime!(1u32 << step).runtime());
                    value = combine(value, other, op);
                }
                values[i] = value;
            }
        }
        Exchange::Shared => {
            let unit = UNIT_POS as usize;
            sync_cube();
            #[unroll]
            for i in 0..n {
                scratch[unit * n + i] = values[i];
            }
            sync_cube();
            let first = unit / width * width;
            #[unroll]
            for i in 0..n {
                let mut value = scratch[first * n + i];
                for other in 1..width {
                    value = combine(value, scratch[(first + other) * n + i], op);
                }
                values[i] = value;
            }
        }
    }
}
