//! The types of instructions and of tensor elements.

/// A PTX type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ty {
    /// Eight untyped bits.
    B8,
    /// `u8`.
    U8,
    /// `i8`.
    S8,
    /// Sixteen untyped bits.
    B16,
    /// `u16`.
    U16,
    /// `i16`.
    S16,
    /// Thirty-two untyped bits.
    B32,
    /// `u32`.
    U32,
    /// `i32`.
    S32,
    /// Sixty-four untyped bits.
    B64,
    /// `u64`.
    U64,
    /// `i64`.
    S64,
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Two halves, the first in the low bits.
    F16x2,
    /// Two bfloat16, the first in the low bits.
    BF16x2,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// A predicate.
    Pred,
}

impl Ty {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "b8" => Self::B8,
            "u8" => Self::U8,
            "s8" => Self::S8,
            "b16" => Self::B16,
            "u16" => Self::U16,
            "s16" => Self::S16,
            "b32" => Self::B32,
            "u32" => Self::U32,
            "s32" => Self::S32,
            "b64" => Self::B64,
            "u64" => Self::U64,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "bf16" => Self::BF16,
            "f16x2" => Self::F16x2,
            "bf16x2" => Self::BF16x2,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Size in memory.
    pub fn bytes(self) -> usize {
        match self {
            Self::B8 | Self::U8 | Self::S8 | Self::Pred => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::BF16 => 2,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 | Self::BF16x2 => 4,
        }
    }

    pub(crate) fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    pub(crate) fn signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    pub(crate) fn float(self) -> bool {
        self.half() || matches!(self, Self::F32 | Self::F64)
    }

    /// A 16-bit float or a pair of them.
    pub(crate) fn half(self) -> bool {
        self.bf16() || matches!(self, Self::F16 | Self::F16x2)
    }

    pub(crate) fn bf16(self) -> bool {
        matches!(self, Self::BF16 | Self::BF16x2)
    }

    pub(crate) fn pair(self) -> bool {
        matches!(self, Self::F16x2 | Self::BF16x2)
    }

    /// The bits of a register that hold a value of this type.
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The value of an integer.
    pub(crate) fn extend(self, raw: u64) -> i128 {
        let unused = 64 - self.bits();
        if self.signed() {
            ((raw << unused) as i64 >> unused) as i128
        } else {
            (raw & self.mask()) as i128
        }
    }
}
