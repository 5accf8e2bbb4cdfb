//! Which elements of a product of 16 rows a thread of a warp holds, and in which registers.
//!
//! A thread has two rows, eight apart, and of both every fourth pair of columns. Registers go through the columns eight
//! at a time: `upper, upper, lower, lower` for the thread's pair of columns in each eight. Rounded and packed two to a
//! register, they are the left operand of the next product as they stand.

use cubecl::prelude::*;

use super::ptx::exchange_word;

/// Whether register `i` belongs to the lower of the thread's rows.
pub(crate) const fn in_lower_row(i: usize) -> bool {
    (i / 2) % 2 == 1
}

/// Column of register `i`, counted from the thread's first column.
pub(crate) const fn column(i: usize) -> usize {
    i / 4 * 8 + i % 2
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

/// Of four words of each of four neighbouring threads, gives thread `q` every thread's word `q`, in the threads' order:
/// with a word for its pair of columns in each of four eights, eight columns in a row.
#[cube]
pub(crate) fn transpose_quad(words: &Array<u32>) -> Array<u32> {
    let mut out = Array::<u32>::new(4usize);
    let odd = quad_lane() % 2u32 == 1u32;
    #[unroll]
    for pair in 0..2usize {
        let (i, j) = (comptime!(2 * pair), comptime!(2 * pair + 1));
        let received = exchange_word(select(odd, words[i], words[j]), 1u32);
        out[i] = select(odd, received, words[i]);
        out[j] = select(odd, words[j], received);
    }
    let high = quad_lane() >= 2u32;
    #[unroll]
    for i in 0..2usize {
        let j = comptime!(i + 2);
        let received = exchange_word(select(high, out[i], out[j]), 2u32);
        let (low_word, high_word) = (out[i], out[j]);
        out[i] = select(high, received, low_word);
        out[j] = select(high, high_word, received);
    }
    out
}
