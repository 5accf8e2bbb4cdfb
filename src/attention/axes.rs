//! A tensor's axes by their names.

use super::check::{check_last_axis, check_not_empty};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Distances along the named axes, in elements.
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
    /// Of a row-major `[batch, seq, head, pair, dim]`, 0 between pairs where there is one.
    pub(crate) fn row_major(len: usize, heads: usize, pairs: usize, dim: usize) -> Self {
        let row = pairs * dim;
        Self {
            offset: 0,
            batch: len * heads * row,
            seq: heads * row,
            head: row,
            pair: if pairs == 1 { 0 } else { dim },
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

/// A tensor read as `[batch, seq, head, pair, dim]`, or without the pair.
#[derive(Debug, Clone)]
pub(crate) struct Axes {
    pub batch: usize,
    pub len: usize,
    pub heads: usize,
    pub pairs: usize,
    pub dim: usize,
    pub strides: AxisStrides,
    shape: Vec<usize>,
}

impl Axes {
    /// Reads a tensor of one of the given ranks.
    pub(crate) fn of(
        name: &'static str,
        tensor: &Tensor,
        ranks: &[usize],
        expected: &'static str,
    ) -> Result<Self> {
        let shape = tensor.shape();
        if !ranks.contains(&shape.len()) {
            return Err(Error::Rank {
                tensor: name,
                got: shape.len(),
                expected,
            });
        }
        check_not_empty(name, tensor)?;
        tensor.check_bounds(name)?;
        check_last_axis(name, tensor)?;
        let strides = tensor.strides();
        let (pairs, pair) = if shape.len() == 5 {
            (shape[3], strides[3])
        } else {
            (1, 0)
        };
        Ok(Self {
            batch: shape[0],
            len: shape[1],
            heads: shape[2],
            pairs,
            dim: shape[shape.len() - 1],
            strides: AxisStrides {
                offset: tensor.offset(),
                batch: strides[0],
                seq: strides[1],
                head: strides[2],
                pair: if pairs == 1 { 0 } else { pair },
            },
            shape: shape.to_vec(),
        })
    }

    /// Refuses an axis of another size than the problem has.
    pub(crate) fn expect(
        &self,
        tensor: &'static str,
        axis: &'static str,
        got: usize,
        expected: usize,
    ) -> Result<()> {
        if got == expected {
            return Ok(());
        }
        Err(Error::Size {
            tensor,
            axis,
            got,
            expected,
            shape: self.shape.clone(),
        })
    }
}
