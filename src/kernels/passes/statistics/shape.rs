//! What is compiled into the kernel of the row statistics.

use super::planes::Planes;
use crate::math::reduce::Exchange;

/// Everything about a launch that is compiled into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowsShape {
    /// Units that share a row.
    pub units_x: usize,
    /// Rows that a cube works on at once.
    pub units_y: usize,
    /// How often, one group of rows after the other.
    pub steps: usize,
    pub value_dim4: usize,
    pub maps: usize,
    pub norm: bool,
    pub gamma: bool,
    pub exchange: Exchange,
}

impl RowsShape {
    pub(crate) const fn units(&self) -> usize {
        self.units_x * self.units_y
    }

    /// Rows of a cube.
    pub(crate) const fn rows(&self) -> usize {
        self.units_y * self.steps
    }

    pub(super) const fn planes(&self) -> Planes {
        Planes { maps: self.maps }
    }

    /// Vectors of a row that a unit holds.
    pub(super) const fn owned4(&self) -> usize {
        self.value_dim4.div_ceil(self.units_x)
    }

    pub(super) const fn gamma_len(&self) -> usize {
        if self.gamma {
            self.units() * self.owned4()
        } else {
            1
        }
    }

    pub(super) const fn scratch_len(&self) -> usize {
        match self.exchange {
            Exchange::Shared => 2 * self.units(),
            _ => 1,
        }
    }

    /// Shared memory in bytes.
    pub(crate) const fn shared_memory(&self) -> usize {
        16 * self.gamma_len() + 4 * self.scratch_len()
    }
}
