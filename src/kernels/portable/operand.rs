//! Where the rows of a tensor's head lie, and the columns of a row.

use cubecl::prelude::*;

use crate::kernels::work::Span;
use crate::math::layout::Strides;

/// Consecutive sequence positions of one head of a tensor.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Operand {
    /// Element of sequence position 0, map 0.
    start: usize,
    /// Elements between sequence positions.
    stride: usize,
    /// Elements between maps, or between the halves of a value.
    pub pair: usize,
    /// First position.
    pub first: usize,
    /// Positions from here on do not exist: they read as zero.
    pub end: usize,
    /// The last axis.
    #[cube(comptime)]
    pub axis: Axis,
}

#[cube]
impl Operand {
    /// The positions of a sequence from `first` on.
    pub fn of(
        at: &Strides,
        span: &Span,
        head: usize,
        first: usize,
        #[comptime] axis: Axis,
    ) -> Operand {
        Operand {
            start: span.start(at, head),
            stride: at.seq as usize,
            pair: at.pair as usize,
            first,
            end: span.len,
            axis,
        }
    }

    /// The same positions of map `map` alone.
    pub fn of_map(&self, #[comptime] map: usize) -> Operand {
        let axis = comptime!(Axis::whole(self.axis.dim4));
        Operand {
            start: self.start + map * self.pair,
            stride: self.stride,
            pair: self.pair,
            first: self.first,
            end: self.end,
            axis,
        }
    }

    /// Element where sequence position `position` of map `map` begins.
    pub fn at(&self, position: usize, map: usize) -> usize {
        self.start + position * self.stride + map * self.pair
    }

    /// Vector `column4` of a row that begins at `row`.
    pub fn column(&self, row: usize, column4: usize) -> usize {
        let mut at = row + column4 * 4;
        if comptime!(self.axis.halves) {
            let half4 = comptime!(self.axis.dim4 / 2);
            if column4 >= half4 {
                at = at + self.pair - comptime!(half4 * 4);
            }
        }
        at
    }
}

/// Comptime shape of an operand's last axis, in vectors of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Axis {
    pub dim4: usize,
    /// Two halves, [`Operand::pair`] elements apart, instead of one piece.
    pub halves: bool,
    /// Maps, [`Operand::pair`] elements apart. Only one if there are halves.
    pub maps: usize,
}

impl Axis {
    pub(crate) const fn maps(dim4: usize, maps: usize) -> Self {
        Axis {
            dim4,
            halves: false,
            maps,
        }
    }

    pub(crate) const fn halves(dim4: usize) -> Self {
        Axis {
            dim4,
            halves: true,
            maps: 1,
        }
    }

    pub(crate) const fn whole(dim4: usize) -> Self {
        Axis::maps(dim4, 1)
    }
}
