//! Matrix descriptors of wgmma.

use crate::tensor_map::Swizzle;

#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    start: u64,
    leading: u64,
    stride: u64,
    base_offset: u64,
    swizzle: Swizzle,
}

impl Descriptor {
    pub fn new(bits: u64) -> Self {
        let bytes = |shift: u32| (bits >> shift & 0x3fff) << 4;
        Self {
            start: bytes(0),
            leading: bytes(16),
            stride: bytes(32),
            base_offset: bits >> 49 & 7,
            swizzle: match bits >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
        }
    }

    /// Shared address of a 16-byte unit. K-major: `outer` is the row of M or N, `unit` counts along K; MN-major:
    /// `outer` is the index of K, `unit` counts along M or N.
    ///
    /// The canonical layouts as shape:stride in 16-byte units, with W units in a swizzled row, are
    ///
    /// | | K-major | MN-major |
    /// |---|---|---|
    /// | no swizzle | `((8,n),2):((1,stride),leading)` | `((1,n),(8,k)):((-,stride),(1,leading))` |
    /// | swizzle | `((8,n),2):((W,stride),1)` | `((W,n),(8,k)):((1,leading),(W,stride))` |
    pub fn address(&self, mn_major: bool, outer: usize, unit: usize) -> u64 {
        let (outer, unit) = (outer as u64, unit as u64);
        let (row, group) = (outer % 8, outer / 8);
        let offset = match (self.swizzle, mn_major) {
            (Swizzle::None, false) => row * 16 + group * self.stride + unit * self.leading,
            (Swizzle::None, true) => row * 16 + group * self.leading + unit * self.stride,
            (s, false) => row * s.bytes() as u64 + group * self.stride + unit * 16,
            (s, true) => {
                let w = s.bytes() as u64 / 16;
                let row = row * s.bytes() as u64 + group * self.stride;
                row + unit % w * 16 + unit / w * self.leading
            }
        };
        let a = self.start + offset;
        a ^ (((a >> 7).wrapping_sub(self.base_offset) & self.swizzle.mask()) << 4)
    }
}
