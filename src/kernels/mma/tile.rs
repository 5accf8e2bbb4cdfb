//! Tiles in shared memory without bank conflicts: where an element lies, how a tile is loaded, where a lane reads.
//!
//! A tile is panels of up to 64 columns (128 bytes), one after the other, each with all of the tile's rows. The pieces of 16
//! bytes of a row are exchanged by its number, so that eight rows have their pieces of the same columns in all the 32 banks:
//! a load of eight rows and eight columns takes one pass, and so does a copy of eight pieces of one row.

use cubecl::prelude::*;

use super::ptx::copy16;
use crate::math::layout::Strides;

/// Columns of the widest panel.
const WIDEST: usize = 64;
/// Columns of a piece of 16 bytes.
const PIECE: usize = 8;
/// Columns, and rows, of a fragment.
pub(crate) const FRAGMENT: usize = 16;

/// Comptime shape of a tile of 16-bit elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    pub rows: usize,
    pub columns: usize,
    /// Columns of a panel, a power of two from 16 to 64.
    panel: usize,
    /// Columns that lie together in global memory, if not all.
    part: usize,
}

impl Tile {
    /// A tile of `columns`, a multiple of 16, in as wide panels as divide them.
    pub(crate) const fn new(rows: usize, columns: usize) -> Self {
        Self::divided(rows, columns, columns)
    }

    /// The same where the columns lie apart in so many equal parts, each a multiple of 16.
    pub(crate) const fn in_parts(rows: usize, columns: usize, parts: usize) -> Self {
        let part = columns / parts;
        Self {
            part,
            ..Self::divided(rows, columns, part)
        }
    }

    /// The same where no panel crosses a multiple of `divisor` columns, which is one of 16.
    pub(crate) const fn divided(rows: usize, columns: usize, divisor: usize) -> Self {
        let power = 1 << divisor.trailing_zeros();
        Self {
            rows,
            columns,
            panel: if power < WIDEST { power } else { WIDEST },
            part: columns,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        2 * self.rows * self.columns
    }

    /// Bytes of a row of a panel.
    const fn pitch(&self) -> usize {
        2 * self.panel
    }

    /// Pieces of a row of a panel.
    const fn pieces(&self) -> usize {
        self.panel / PIECE
    }

    const fn panel_pieces(&self) -> usize {
        self.rows * self.pieces()
    }

    /// Rows after which the exchange of pieces goes on to the next: those of 128 bytes.
    const fn exchange_rows(&self) -> usize {
        WIDEST / self.panel
    }

    /// What the address of a lane's piece is exclusive-ored with at the 16 columns number `step`.
    pub(crate) const fn turn(&self, step: usize) -> usize {
        2 * FRAGMENT * step % self.pitch()
    }

    /// By how many bytes it is further then, and `rows` rows further down, a multiple of 16.
    pub(crate) const fn skip(&self, step: usize, rows: usize) -> usize {
        FRAGMENT * step / self.panel * self.rows * self.pitch() + rows * self.pitch()
    }
}

/// Bytes from a panel's start to `piece` of `row`.
#[cube]
fn place(row: u32, piece: u32, #[comptime] tile: Tile) -> u32 {
    let pieces = comptime!(tile.pieces() as u32);
    let turned = piece ^ (row / comptime!(tile.exchange_rows() as u32) % pieces);
    row * comptime!(tile.pitch() as u32) + turned * 16u32
}

/// Address at which the lane reads its row of a left operand, or by columns its row of a right one: `at` is that of the tile,
/// `row` the fragment's first, a multiple of 16.
#[cube]
pub(crate) fn left_lane(at: u32, row: u32, #[comptime] tile: Tile) -> u32 {
    let lane = UNIT_POS % 32u32;
    at + row * comptime!(tile.pitch() as u32) + place(lane % 16u32, lane / 16u32, tile)
}

/// Address at which the lane reads, by rows, its row of a right operand.
#[cube]
pub(crate) fn right_lane(at: u32, #[comptime] tile: Tile) -> u32 {
    let lane = UNIT_POS % 32u32;
    at + place(lane % 8u32 + lane / 16u32 * 8u32, lane / 8u32 % 2u32, tile)
}

/// Rows of a tensor that tiles are loaded from: those of one batch, head and map.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Rows {
    /// Element where position 0 begins.
    start: u32,
    seq: u32,
    /// Between parts of a row that lie apart.
    part: u32,
    len: u32,
}

#[cube]
impl Rows {
    /// Of map `map`.
    pub fn of_map(at: &Strides, batch: u32, head: u32, map: u32, len: u32) -> Rows {
        Rows {
            start: at.offset + batch * at.batch + head * at.head + map * at.pair,
            seq: at.seq,
            part: 0u32.runtime(),
            len,
        }
    }

    /// Of a tensor whose pair axis is that of parts of its rows.
    pub fn in_parts(at: &Strides, batch: u32, head: u32, len: u32) -> Rows {
        Rows {
            start: at.offset + batch * at.batch + head * at.head,
            seq: at.seq,
            part: at.pair,
            len,
        }
    }
}

/// Begins to copy the rows from `first` on to a tile at `to`, by all threads; rows past the end become zeros, which a weight
/// of zero leaves zero.
#[cube]
pub(crate) fn load<F: Float>(
    from: &[F],
    rows: &Rows,
    first: u32,
    to: u32,
    #[comptime] tile: Tile,
    #[comptime] threads: usize,
) {
    if comptime!(tile.panel_pieces().is_multiple_of(threads)) {
        load_panels(from, rows, first, to, tile, threads);
    } else {
        load_pieces(from, rows, first, to, tile, threads);
    }
}

/// Where all threads are in the same panel: a thread's rows are evenly apart, and only they need addresses.
#[cube]
fn load_panels<F: Float>(
    from: &[F],
    rows: &Rows,
    first: u32,
    to: u32,
    #[comptime] tile: Tile,
    #[comptime] threads: usize,
) {
    let from = unsafe { from.as_ptr_unchecked() };
    let pieces = comptime!(tile.pieces() as u32);
    let step = comptime!(threads / tile.pieces());
    let (row, piece) = (UNIT_POS / pieces, UNIT_POS % pieces);
    let to = to + place(row, piece, tile);
    let start = rows.start + piece * comptime!(PIECE as u32);
    #[unroll]
    for i in 0..comptime!(tile.rows / step) {
        let position = first + row + comptime!((i * step) as u32);
        let bytes = select(position < rows.len, 16u32, 0u32);
        let line = start + position * rows.seq;
        #[unroll]
        for panel in 0..comptime!(tile.columns / tile.panel) {
            let column = comptime!(panel * tile.panel);
            let part = comptime!((column / tile.part) as u32) * rows.part;
            let index = line + part + comptime!((column % tile.part) as u32);
            let skip = comptime!((panel * tile.rows + i * step) * tile.pitch());
            copy16::<F>(from, index, bytes, to, skip);
        }
    }
}

/// Piece by piece.
#[cube]
fn load_pieces<F: Float>(
    from: &[F],
    rows: &Rows,
    first: u32,
    to: u32,
    #[comptime] tile: Tile,
    #[comptime] threads: usize,
) {
    let from = unsafe { from.as_ptr_unchecked() };
    let pieces = comptime!(tile.pieces() as u32);
    let total = comptime!(tile.rows * tile.columns / PIECE);
    #[unroll]
    for i in 0..comptime!(total.div_ceil(threads)) {
        let number = UNIT_POS + comptime!((i * threads) as u32);
        let panel = number / comptime!(tile.panel_pieces() as u32);
        let row = number % comptime!(tile.panel_pieces() as u32) / pieces;
        let piece = number % pieces;
        let position = first + row;
        let column = panel * comptime!(tile.panel as u32);
        let part = column / comptime!(tile.part as u32);
        let index = rows.start
            + position * rows.seq
            + part * rows.part
            + column % comptime!(tile.part as u32)
            + piece * comptime!(PIECE as u32);
        let bytes = select(position < rows.len, 16u32, 0u32);
        let at =
            to + panel * comptime!((tile.rows * tile.pitch()) as u32) + place(row, piece, tile);
        let exists = if comptime!((i + 1) * threads <= total) {
            true.runtime()
        } else {
            number < comptime!(total as u32)
        };
        if exists {
            copy16::<F>(from, index, bytes, at, 0usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bank of 16 bytes, of eight, in which a piece begins.
    fn bank(tile: &Tile, row: usize, piece: usize) -> usize {
        let turned = piece ^ (row / tile.exchange_rows() % tile.pieces());
        (row * tile.pitch() + 16 * turned) / 16 % 8
    }

    fn tiles() -> impl Iterator<Item = Tile> {
        (1..=16).map(|n| Tile::new(64, 16 * n))
    }

    fn distinct(banks: impl Iterator<Item = usize>) -> bool {
        let mut seen = [false; 8];
        banks
            .into_iter()
            .all(|bank| !core::mem::replace(&mut seen[bank], true))
    }

    #[test]
    fn eight_rows_of_a_piece_are_in_different_banks() {
        for tile in tiles() {
            for (first, piece) in (0..8).flat_map(|n| (0..tile.pieces()).map(move |p| (8 * n, p))) {
                let banks = (first..first + 8).map(|row| bank(&tile, row, piece));
                assert!(distinct(banks), "{tile:?} rows from {first}, piece {piece}");
            }
        }
    }

    #[test]
    fn eight_neighbouring_copies_are_to_different_banks() {
        for tile in tiles() {
            for first in (0..tile.panel_pieces()).step_by(8) {
                let banks =
                    (first..first + 8).map(|i| bank(&tile, i / tile.pieces(), i % tile.pieces()));
                assert!(distinct(banks), "{tile:?} from piece {first}");
            }
        }
    }

    #[test]
    fn a_turn_leads_to_the_piece_of_the_step() {
        for tile in tiles() {
            for (row, step) in (0..16).flat_map(|row| (0..tile.columns / 16).map(move |k| (row, k)))
            {
                for piece in 0..2 {
                    let place = |piece: usize| {
                        let turned = piece ^ (row / tile.exchange_rows() % tile.pieces());
                        row * tile.pitch() + 16 * turned
                    };
                    let at = (place(piece) ^ tile.turn(step)) + tile.skip(step, 0);
                    let number = 2 * step + piece;
                    let panel = number / tile.pieces() * tile.rows * tile.pitch();
                    assert_eq!(at, panel + place(number % tile.pieces()), "{tile:?}");
                }
            }
        }
    }
}
