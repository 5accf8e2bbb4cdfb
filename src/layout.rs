//! Where the elements of a tensor lie in its buffer.

use crate::error::{Error, Result};

/// First element, sizes and strides, in elements; outermost axis first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl Layout {
    /// Row-major from the start of the buffer.
    pub(crate) fn row_major(shape: &[usize]) -> Self {
        Self {
            offset: 0,
            shape: shape.to_vec(),
            strides: row_major(shape),
        }
    }

    /// Number of elements; `usize::MAX` for a shape, of repeated axes, that has more.
    pub(crate) fn len(&self) -> usize {
        elements(&self.shape)
    }

    /// Elements, from the start of the buffer, that are spanned; `usize::MAX` if that is more.
    pub(crate) fn reach(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let axes = self.shape.iter().zip(&self.strides);
        let far = axes.into_iter().try_fold(self.offset, |sum, (n, stride)| {
            sum.checked_add((n - 1).checked_mul(*stride)?)
        });
        far.map_or(usize::MAX, |far| far.saturating_add(1))
    }

    /// Whether it is row-major and begins where the buffer begins.
    pub(crate) fn is_row_major(&self) -> bool {
        self.offset == 0 && self.strides == row_major(&self.shape)
    }

    /// Refuses strides of another rank, and elements past the `capacity` elements of the buffer.
    pub(crate) fn check_bounds(&self, tensor: &'static str, capacity: usize) -> Result<()> {
        if self.strides.len() != self.shape.len() {
            let (got, expected) = (self.strides.len(), self.shape.len());
            return Err(Error::Strides {
                tensor,
                got,
                expected,
            });
        }
        let (reach, len) = (self.reach(), capacity);
        if reach > len {
            return Err(Error::OutOfBuffer { tensor, reach, len });
        }
        Ok(())
    }

    /// Refuses a tensor in which two indices name the same element, as far as sorted strides can tell.
    pub(crate) fn check_writable(&self, tensor: &'static str) -> Result<()> {
        let axes = self.shape.iter().zip(&self.strides);
        let mut axes: Vec<_> = axes.filter(|(n, _)| **n > 1).collect();
        axes.sort_by_key(|(_, stride)| **stride);
        let mut span = 1;
        for (&n, &stride) in axes {
            if stride < span {
                let (shape, strides) = (self.shape.clone(), self.strides.clone());
                return Err(Error::Overlap {
                    tensor,
                    shape,
                    strides,
                });
            }
            span += stride * (n - 1);
        }
        Ok(())
    }

    /// Position in the buffer of the element with row-major index `linear`.
    pub(crate) fn position(&self, mut linear: usize) -> usize {
        let mut at = self.offset;
        for (n, stride) in self.shape.iter().zip(&self.strides).rev() {
            at += linear % n * stride;
            linear /= n;
        }
        at
    }

    /// The same elements with the axes in another order: axis `i` of the result is axis `axes[i]` of this one.
    pub(crate) fn permute(&self, axes: &[usize]) -> Result<Self> {
        let rank = self.shape.len();
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if self.strides.len() != rank || !sorted.into_iter().eq(0..rank) {
            return Err(Error::Permutation {
                axes: axes.to_vec(),
                rank,
            });
        }
        let pick = |of: &[usize]| axes.iter().map(|&from| of[from]).collect();
        Ok(Self {
            offset: self.offset,
            shape: pick(&self.shape),
            strides: pick(&self.strides),
        })
    }
}

/// Elements of a shape, at most `usize::MAX`.
pub(crate) fn elements(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |len, n| len.saturating_mul(*n))
}

/// Strides of a row-major tensor, in elements.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i]);
    }
    strides
}
