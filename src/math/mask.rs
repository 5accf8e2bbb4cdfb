//! Which keys a tile of queries visits, and which queries a tile of keys: loop bounds, and the test at their edge.

use cubecl::prelude::*;

use crate::problem::Problem;
pub(crate) use crate::problem::Sides;

/// A band around the diagonal `key = query + shift`, with the lengths that bound it.
#[derive(CubeType, CubeLaunch, Clone, Copy, Debug)]
pub(crate) struct Band {
    pub query_len: i32,
    pub key_len: i32,
    /// Keys seen before the diagonal, if bounded.
    pub left: i32,
    /// Keys seen after the diagonal, if bounded.
    pub right: i32,
}

impl Band {
    /// The band that a problem's mask leaves.
    pub(crate) fn of(problem: &Problem) -> Self {
        let (_, left, right) = problem.band();
        Self {
            query_len: problem.query_len as i32,
            key_len: problem.key_len as i32,
            left,
            right,
        }
    }

    /// As a kernel's argument.
    pub(crate) fn argument(&self) -> BandLaunch {
        BandLaunch::new(self.query_len, self.key_len, self.left, self.right)
    }
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

    /// Whether `query` sees `key`: one comparison of the key's distance from the first that is seen. Comparisons joined
    /// by `&&` would be branches, of which a tile has hundreds; SwiftShader compiles those until memory runs out.
    pub fn sees(&self, query: i32, key: i32, #[comptime] sides: Sides) -> bool {
        let mut start = 0i32.runtime();
        let mut end = select(query < self.query_len, self.key_len, 0i32.runtime());
        if comptime!(sides.left) {
            start = max(start, query + self.shift() - self.left);
        }
        if comptime!(sides.right) {
            end = min(end, query + self.shift() + self.right + 1);
        }
        ((key - start) as u32) < (max(end - start, 0i32.runtime()) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mask;

    /// Every mask and pair of lengths up to `longest`, the bounds reaching past both.
    fn bands(longest: usize) -> impl Iterator<Item = (Mask, Band, Sides)> {
        let bound = |i: usize| i.checked_sub(1);
        let lengths = (1..=longest).flat_map(move |n| (1..=longest).map(move |m| (n, m)));
        let windows = move || {
            let sides = 0..=2 * longest + 1;
            sides
                .clone()
                .flat_map(move |l| sides.clone().map(move |r| (bound(l), bound(r))))
        };
        lengths.flat_map(move |(query_len, key_len)| {
            windows().map(move |(left, right)| {
                let band = Band {
                    query_len: query_len as i32,
                    key_len: key_len as i32,
                    left: left.unwrap_or(0) as i32,
                    right: right.unwrap_or(0) as i32,
                };
                let sides = Sides {
                    left: left.is_some(),
                    right: right.is_some(),
                };
                (Mask::Window { left, right }, band, sides)
            })
        })
    }

    /// Compares the bounds of the tile `first..=last` of rows with what its rows see of `columns`, one by one.
    fn check(bounds: Bounds, [first, last, columns]: [i32; 3], sees: impl Fn(i32, i32) -> bool) {
        let some = |column| (first..=last).any(|row| sees(row, column));
        let all = |column| (first..=last).all(|row| sees(row, column));
        for column in 0..columns {
            let inside = (bounds.start..bounds.end).contains(&column);
            assert_eq!(
                inside,
                some(column),
                "{bounds:?} rows {first}..={last} column {column}"
            );
        }
        assert!(bounds.start >= 0 && bounds.end <= columns, "{bounds:?}");
        for start in bounds.start..bounds.end {
            for len in 1..=3 {
                let edge = (start..start + len as i32).any(|column| !all(column));
                let what =
                    format!("{bounds:?} rows {first}..={last} columns {start}, {len} of them");
                assert_eq!(bounds.has_edge(start, len), edge, "{what}");
            }
        }
    }

    fn tiles(rows: i32) -> impl Iterator<Item = (i32, i32)> {
        (0..rows).flat_map(move |first| (first..rows).map(move |last| (first, last)))
    }

    #[test]
    fn sees_what_the_mask_lets_through() {
        for (mask, band, sides) in bands(5) {
            for query in 0..band.query_len + 2 {
                let inside = query < band.query_len;
                let (n, m) = (band.query_len as usize, band.key_len as usize);
                let visible = if inside {
                    mask.visible(query as usize, n, m)
                } else {
                    0..0
                };
                for key in 0..band.key_len + 2 {
                    let seen = band.sees(query, key, sides);
                    let what = format!("{mask:?} of {n} queries, {m} keys: {query} sees {key}");
                    assert_eq!(seen, visible.contains(&(key as usize)), "{what}");
                }
            }
        }
    }

    #[test]
    fn keys_of_a_tile_of_queries() {
        for (_, band, sides) in bands(5) {
            for (first, last) in tiles(band.query_len) {
                let bounds = band.keys(first, last, sides);
                check(bounds, [first, last, band.key_len], |query, key| {
                    band.sees(query, key, sides)
                });
            }
        }
    }

    #[test]
    fn queries_of_a_tile_of_keys() {
        for (_, band, sides) in bands(5) {
            for (first, last) in tiles(band.key_len) {
                let bounds = band.queries(first, last, sides);
                check(bounds, [first, last, band.query_len], |key, query| {
                    band.sees(query, key, sides)
                });
            }
        }
    }
}
