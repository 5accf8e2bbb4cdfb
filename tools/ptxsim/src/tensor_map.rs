//! Tensor maps: what `cuTensorMapEncodeTiled` is given, and the walk over a tile.

use crate::error::{Error, Result};
use crate::ty::Ty;

/// How 16-byte chunks of a tile are permuted in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    /// Rows as they are.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

impl Swizzle {
    /// Bytes of a row of the pattern; as many as there can be without one.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Swizzle::None => usize::MAX,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// The bits of a row's number that are added to the number of a chunk.
    pub(crate) fn mask(self) -> u64 {
        match self {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        }
    }

    /// Where the byte of a linear shared address lies: the pattern is one of absolute addresses.
    pub fn apply(self, address: u64) -> u64 {
        address ^ ((address >> 7 & self.mask()) << 4)
    }
}

/// The arguments of `cuTensorMapEncodeTiled`; element strides are 1, elements outside read as zero.
#[derive(Debug, Clone)]
pub struct TensorMap {
    /// Type of the elements.
    pub ty: Ty,
    /// Address of the tensor.
    pub base: u64,
    /// Elements along each dimension, the innermost first.
    pub dims: Vec<u64>,
    /// Bytes from one element to the next along each dimension but the innermost.
    pub strides: Vec<u64>,
    /// Elements of a tile along each dimension.
    pub box_dims: Vec<u32>,
    /// How a tile lies in shared memory.
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// The checks of `cuTensorMapEncodeTiled`.
    pub(crate) fn validate(&self) -> Result<()> {
        let rank = self.dims.len();
        let inner = self.box_dims.first().map_or(0, |n| *n as usize) * self.ty.bytes();
        let rules = [
            (
                (1..=5).contains(&rank)
                    && self.strides.len() + 1 == rank
                    && self.box_dims.len() == rank,
                "1 to 5 dimensions, as many box dimensions, one stride fewer",
            ),
            (
                self.base.is_multiple_of(16),
                "the address is a multiple of 16",
            ),
            (
                self.dims.iter().all(|n| (1..=1 << 32).contains(n)),
                "dimensions are 1 to 2^32",
            ),
            (
                self.strides
                    .iter()
                    .all(|s| s.is_multiple_of(16) && *s < 1 << 40),
                "strides are multiples of 16 below 2^40",
            ),
            (
                self.box_dims.iter().all(|n| (1..=256).contains(n)),
                "box dimensions are 1 to 256",
            ),
            (
                inner.is_multiple_of(16),
                "the innermost box dimension is a multiple of 16 bytes",
            ),
            (
                inner <= self.swizzle.bytes(),
                "the innermost box dimension is no longer than the swizzle",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::usage(format!("tensor map: {rule}"))),
            None => Ok(()),
        }
    }

    /// Bytes of a tile.
    pub(crate) fn box_bytes(&self) -> usize {
        let elements: u32 = self.box_dims.iter().product();
        elements as usize * self.ty.bytes()
    }

    /// Calls `visit(shared address, global address, bytes, elements inside)` for each 16-byte chunk of the tile at
    /// `coords`, whose bytes lie together on both sides; the chunk's first elements are those inside unless none is.
    pub(crate) fn walk(&self, shared: u64, coords: &[i32], mut visit: impl FnMut(Chunk)) {
        let size = self.ty.bytes();
        let per_chunk = 16 / size;
        let chunks = self.box_dims[0] as usize / per_chunk;
        let rows: u32 = self.box_dims[1..].iter().product();
        let mut linear = shared;
        for row in 0..rows {
            let start = self.row(row, &coords[1..]);
            for chunk in 0..chunks {
                let x = coords[0] as i64 + (chunk * per_chunk) as i64;
                visit(Chunk {
                    shared: self.swizzle.apply(linear),
                    global: start.map(|s| s.wrapping_add_signed(x * size as i64)),
                    inside: start.map_or(0..0, |_| self.inside(x, per_chunk, size)),
                });
                linear += 16;
            }
        }
    }

    /// Global address of element 0 of a row of the tile, if the row is inside.
    fn row(&self, mut row: u32, coords: &[i32]) -> Option<u64> {
        let mut address = self.base;
        for (d, coord) in coords.iter().enumerate() {
            let n = self.box_dims[d + 1];
            let at = *coord as i64 + (row % n) as i64;
            row /= n;
            if at < 0 || at as u64 >= self.dims[d + 1] {
                return None;
            }
            address += at as u64 * self.strides[d];
        }
        Some(address)
    }

    /// The bytes of a chunk of `n` elements from element `x` of a row that are inside.
    fn inside(&self, x: i64, n: usize, size: usize) -> std::ops::Range<usize> {
        let first = (-x).clamp(0, n as i64) as usize;
        let end = (self.dims[0] as i64 - x).clamp(0, n as i64) as usize;
        first * size..end.max(first) * size
    }
}

/// 16 bytes of a tile.
pub(crate) struct Chunk {
    /// Where they lie in shared memory.
    pub shared: u64,
    /// Where they start in global memory, if their row is inside.
    pub global: Option<u64>,
    /// Which of them are inside.
    pub inside: std::ops::Range<usize>,
}
