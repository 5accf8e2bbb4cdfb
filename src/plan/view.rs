//! A tensor as kernels address it: named axes whose strides are counted in 32 bits.

use super::operand::Operand;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::math::layout::StridesLaunch;
use crate::tensor::Tensor;

/// Distances along the named axes, in elements; 0 along an axis of one element.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct AxisStrides {
    pub offset: usize,
    pub batch: usize,
    pub seq: usize,
    pub head: usize,
    /// Between maps, or between halves.
    pub pair: usize,
}

impl AxisStrides {
    /// Of a row-major `[batch, seq, head, pair, dim]`.
    pub(crate) fn row_major([_, len, heads, pairs, dim]: [usize; 5]) -> Self {
        let row = pairs * dim;
        Self {
            offset: 0,
            batch: len * heads * row,
            seq: heads * row,
            head: row,
            pair: if pairs == 1 { 0 } else { dim },
        }
    }

    /// Of `[batch, seq, head, dim]` or `[batch, seq, head, pair, dim]`.
    pub(crate) fn of_rows(layout: &Layout) -> Self {
        let stride = |axis: usize| match layout.shape[axis] {
            1 => 0,
            _ => layout.strides[axis],
        };
        Self {
            offset: layout.offset,
            batch: stride(0),
            seq: stride(1),
            head: stride(2),
            pair: if layout.shape.len() == 5 {
                stride(3)
            } else {
                0
            },
        }
    }

    /// Of `[B, H, maps, Nq]`.
    pub(crate) fn of_lse(layout: &Layout) -> Self {
        let strides = &layout.strides;
        Self {
            offset: layout.offset,
            batch: strides[0],
            seq: strides[3],
            head: strides[1],
            pair: strides[2],
        }
    }

    /// Whether vectors of `width` elements along the last axis are aligned everywhere.
    pub(crate) fn divisible(&self, width: usize) -> bool {
        let AxisStrides {
            offset,
            batch,
            seq,
            head,
            pair,
        } = *self;
        [offset, batch, seq, head, pair]
            .iter()
            .all(|x| x % width == 0)
    }
}

/// A tensor of a call. That there is one says that a 32-bit index reaches all of its elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    pub operand: Operand,
    pub dtype: DType,
    pub strides: AxisStrides,
    /// Bytes that the buffer begins past a multiple of 256.
    pub residue: usize,
}

impl View {
    /// A tensor with its axes' strides.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it spans more elements than an index of 32 bits counts: the only place where that is refused.
    pub(crate) fn new(operand: Operand, tensor: &Tensor, strides: AxisStrides) -> Result<Self> {
        let (dtype, residue) = (tensor.dtype(), tensor.residue());
        check_reach(operand, tensor.layout())?;
        Ok(Self {
            operand,
            dtype,
            strides,
            residue,
        })
    }

    /// A tensor `[batch, seq, head, dim]` or `[batch, seq, head, pair, dim]`.
    pub(crate) fn rows(operand: Operand, tensor: &Tensor) -> Result<Self> {
        Self::new(operand, tensor, AxisStrides::of_rows(tensor.layout()))
    }

    /// A tensor of one axis, or one that is addressed by its offset alone.
    pub(crate) fn flat(operand: Operand, tensor: &Tensor) -> Result<Self> {
        let strides = AxisStrides {
            offset: tensor.offset(),
            ..AxisStrides::default()
        };
        Self::new(operand, tensor, strides)
    }

    /// A part of the workspace of that shape, row-major; named axes are those of `[batch, seq, head, pair, dim]`.
    pub(super) fn scratch(
        operand: Operand,
        dtype: DType,
        shape: &[usize],
        strides: AxisStrides,
    ) -> Result<Self> {
        check_reach(operand, &Layout::row_major(shape))?;
        Ok(Self {
            operand,
            dtype,
            strides,
            residue: 0,
        })
    }

    /// What stands for argument number `n` of those that a kernel does not use.
    pub(crate) fn unused(n: u8) -> Self {
        Self {
            operand: Operand::Unused(n),
            dtype: DType::F32,
            strides: AxisStrides::default(),
            residue: 0,
        }
    }

    /// The strides as a kernel's argument; none of them is cut, as every index fits 32 bits.
    pub(crate) fn strides(&self) -> StridesLaunch {
        let AxisStrides {
            offset,
            batch,
            seq,
            head,
            pair,
        } = self.strides;
        let [offset, batch, seq, head, pair] = [offset, batch, seq, head, pair].map(|n| n as u32);
        StridesLaunch::new(offset, batch, seq, head, pair)
    }

    /// The first element as a kernel's argument.
    pub(crate) fn offset(&self) -> u32 {
        self.strides.offset as u32
    }
}

/// Elements that one global access moves: 4 where every row of every tensor begins at a multiple of 4, else 1.
pub(crate) fn vector_width(views: &[&View]) -> usize {
    if views.iter().all(|view| view.strides.divisible(4)) {
        4
    } else {
        1
    }
}

/// Refuses what an index of 32 bits cannot reach: an element, or a stride that leads out of the tensor and is multiplied
/// all the same.
fn check_reach(operand: Operand, layout: &Layout) -> Result<()> {
    let (got, limit) = (layout.reach(), u32::MAX as usize);
    if got <= limit {
        return Ok(());
    }
    Err(Error::TooLarge {
        tensor: operand.name(),
        resource: "elements",
        got,
        limit,
    })
}
