//! Which elements of a product of 64 rows a thread of the warpgroup holds, and in which registers.
//!
//! A thread has two rows, eight apart, and of both every fourth pair of columns. Registers go through the columns eight
//! at a time: `upper, upper, lower, lower` for the thread's pair of columns in each eight. Rounded and packed two to a
//! register, they are the left operand of the next product as they stand.

use cubecl::prelude::*;

/// Rows of a product of one warpgroup.
pub(crate) const ROWS: usize = 64;
/// Threads of a warpgroup.
pub(crate) const THREADS: usize = 128;

/// Whether register `i` belongs to the lower of the thread's rows.
pub(crate) const fn in_lower_row(i: usize) -> bool {
    (i / 2) % 2 == 1
}

/// Column of register `i`, counted from the thread's first column.
pub(crate) const fn column(i: usize) -> usize {
    i / 4 * 8 + i % 2
}

/// The thread's upper row.
#[cube]
pub(crate) fn upper_row() -> u32 {
    (UNIT_POS / 32u32) % 4u32 * 16u32 + UNIT_POS % 32u32 / 4u32
}

/// The thread's number among the four that share its rows.
#[cube]
pub(crate) fn quad_lane() -> u32 {
    UNIT_POS % 4u32
}

/// The thread's first column.
#[cube]
pub(crate) fn first_column() -> u32 {
    quad_lane() * 2u32
}
