//! Which keys a tile of queries visits, and which queries a tile of keys: loop bounds, and the test at their edge.

use cubecl::prelude::*;

/// A band around the diagonal `key = query + shift`, with the lengths that bound it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Band {
    pub query_len: i32,
    pub key_len: i32,
    /// Keys seen before the diagonal, if bounded.
    pub left: i32,
    /// Keys seen after the diagonal, if bounded.
    pub right: i32,
}

/// Which sides of a [`Band`] are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sides {
    pub left: bool,
    pub right: bool,
}

/// `start..end` is seen by any row of a tile, `inner_start..inner_end` by all of them.
#[derive(CubeType, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub start: i32,
    pub end: i32,
    pub inner_start: i32,
    pub inner_end: i32,
}

#[cube]
impl Bounds {
    /// Whether the `len` positions from `first` on reach outside what every row sees.
    pub fn has_edge(&self, first: i32, #[comptime] len: usize) -> bool {
        first < self.inner_start || first + comptime!(len as i32) > self.inner_end
    }
}

#[cube]
impl Band {
    fn shift(&self) -> i32 {
        self.key_len - self.query_len
    }

    /// Keys for the queries `first..last + 1`.
    pub fn keys(&self, first: i32, last: i32, #[comptime] sides: Sides) -> Bounds {
        let mut bounds = Bounds {
            start: 0,
            end: self.key_len,
            inner_start: 0,
            inner_end: self.key_len,
        };
        if comptime!(sides.left) {
            bounds.start = max(first + self.shift() - self.left, 0);
            bounds.inner_start = max(last + self.shift() - self.left, 0);
        }
        if comptime!(sides.right) {
            bounds.end = clamp(last + self.shift() + self.right + 1, 0, self.key_len);
            bounds.inner_end = clamp(first + self.shift() + self.right + 1, 0, self.key_len);
        }
        bounds
    }

    /// Queries for the keys `first..last + 1`.
    pub fn queries(&self, first: i32, last: i32, #[comptime] sides: Sides) -> Bounds {
        let mut bounds = Bounds {
            start: 0,
            end: self.query_len,
            inner_start: 0,
            inner_end: self.query_len,
        };
        if comptime!(sides.right) {
            bounds.start = max(first - self.shift() - self.right, 0);
            bounds.inner_start = max(last - self.shift() - self.right, 0);
        }
        if comptime!(sides.left) {
            bounds.end = clamp(last - self.shift() + self.left + 1, 0, self.query_len);
            bounds.inner_end = clamp(first - self.shift() + self.left + 1, 0, self.query_len);
        }
        bounds
    }

    /// Whether `query` sees `key`.
    pub fn sees(&self, query: i32, key: i32, #[comptime] sides: Sides) -> bool {
        let mut seen = key < self.key_len && query < self.query_len;
        if comptime!(sides.left) {
            seen = seen && key >= query + self.shift() - self.left;
        }
        if comptime!(sides.right) {
            seen = seen && key <= query + self.shift() + self.right;
        }
        seen
    }
}
