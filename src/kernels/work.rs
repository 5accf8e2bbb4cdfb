//! What a cube works on: the one reader of its place in the grid, and the sequence that its tile belongs to.

use cubecl::prelude::*;

use crate::math::layout::Strides;
use crate::math::mask::{Band, Bounds, Sides};

/// In which order the tiles of a sequence start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    FirstToLast,
    /// Under a causal mask the last tiles work longest, so they start first.
    LastToFirst,
}

/// A tile of rows of one head. The grid is (tiles, heads, batch).
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Work {
    /// First row of the tile.
    pub first_row: usize,
    /// Query head; of a tile of keys, the first one of its group.
    pub head: usize,
    pub kv_head: usize,
    pub batch: usize,
    /// Query heads of a sequence.
    heads: usize,
}

#[cube]
impl Work {
    /// A tile of `rows` queries. The grid counts query heads, `group` of them for each head of key and value.
    pub fn decode_queries(group: u32, #[comptime] rows: usize, #[comptime] order: Order) -> Work {
        let head = CUBE_POS_Y as usize;
        let tile = match comptime!(order) {
            Order::FirstToLast => CUBE_POS_X as usize,
            Order::LastToFirst => reversed(CUBE_POS_X as usize, CUBE_COUNT_X as usize),
        };
        Work {
            first_row: tile * rows,
            head,
            kv_head: head / group as usize,
            batch: CUBE_POS_Z as usize,
            heads: CUBE_COUNT_Y as usize,
        }
    }

    /// A tile of `rows` keys. The grid counts heads of key and value, each shared by `group` query heads.
    pub fn decode_keys(group: u32, #[comptime] rows: usize) -> Work {
        let kv_head = CUBE_POS_Y as usize;
        Work {
            first_row: CUBE_POS_X as usize * rows,
            head: kv_head * group as usize,
            kv_head,
            batch: CUBE_POS_Z as usize,
            heads: CUBE_COUNT_Y as usize * group as usize,
        }
    }

    /// Number of query head `head` among the query heads of all sequences.
    pub fn line(&self, head: usize) -> usize {
        self.batch * self.heads + head
    }

    /// Query heads of all sequences.
    pub fn lines(&self) -> usize {
        CUBE_COUNT_Z as usize * self.heads
    }

    /// Number of the cube among those of a grid of query heads, tiles first.
    pub fn cube(&self) -> usize {
        self.line(self.head) * CUBE_COUNT_X as usize + CUBE_POS_X as usize
    }
}

/// The rows that a sequence has in a batched tensor.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Span {
    batch: usize,
    pub len: usize,
}

#[cube]
impl Span {
    /// All rows of one element of the batch.
    pub fn dense(batch: usize, len: usize) -> Span {
        Span { batch, len }
    }

    /// Element where the sequence's first row begins in one head of a tensor.
    pub fn start(&self, at: &Strides, head: usize) -> usize {
        at.start(self.batch, head)
    }
}

/// The queries and keys of one sequence, and which of them see each other.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Sequence {
    pub queries: Span,
    pub keys: Span,
    pub band: Band,
}

#[cube]
impl Sequence {
    /// One element of a batch whose sequences are all of one length.
    pub fn dense(batch: usize, band: Band) -> Sequence {
        Sequence {
            queries: Span::dense(batch, band.query_len as usize),
            keys: Span::dense(batch, band.key_len as usize),
            band,
        }
    }

    /// Keys that the `rows` queries from `first` on see.
    pub fn keys_seen(
        &self,
        first: usize,
        #[comptime] rows: usize,
        #[comptime] sides: Sides,
    ) -> Bounds {
        let last = min(first + rows, self.queries.len) - 1;
        self.band.keys(first as i32, last as i32, sides)
    }

    /// Queries that see the `rows` keys from `first` on.
    pub fn queries_seeing(
        &self,
        first: usize,
        #[comptime] rows: usize,
        #[comptime] sides: Sides,
    ) -> Bounds {
        let last = min(first + rows, self.keys.len) - 1;
        self.band.queries(first as i32, last as i32, sides)
    }
}

/// Of so many, counted from the other end.
#[cube]
fn reversed(position: usize, count: usize) -> usize {
    count - 1 - position
}
