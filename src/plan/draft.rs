//! A plan in the making: its steps so far, and the scratch they need.

use super::operand::{Operand, SCRATCHES};
use super::step::Step;
use super::view::{AxisStrides, View};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::elements;

/// A part of a workspace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scratch {
    pub operand: Operand,
    pub bytes: usize,
}

/// Steps and scratch, in order.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(super) steps: Vec<Box<dyn Step>>,
    pub(super) scratch: Vec<Scratch>,
    /// The most arguments that one of the kernels does not use.
    pub(super) unused: u8,
}

impl Draft {
    /// The next launch.
    pub(crate) fn push(&mut self, step: impl Step + 'static) {
        self.steps.push(Box::new(step));
    }

    /// Row-major scratch of that shape, addressed from its start.
    pub(crate) fn scratch(&mut self, dtype: DType, shape: &[usize]) -> Result<View> {
        self.allocate(dtype, shape, AxisStrides::default())
    }

    /// Row-major scratch `[batch, seq, head, pair, dim]`.
    pub(crate) fn scratch_rows(&mut self, dtype: DType, shape: [usize; 5]) -> Result<View> {
        self.allocate(dtype, &shape, AxisStrides::row_major(shape))
    }

    /// The tensor, or what stands for argument number `n` of those that a kernel does not use.
    pub(crate) fn or_unused(&mut self, view: Option<View>, n: u8) -> View {
        view.unwrap_or_else(|| {
            self.unused = self.unused.max(n + 1);
            View::unused(n)
        })
    }

    fn allocate(&mut self, dtype: DType, shape: &[usize], strides: AxisStrides) -> Result<View> {
        let n = self.scratch.len();
        if n == SCRATCHES {
            return Err(Error::TooLarge {
                tensor: "scratch",
                resource: "parts",
                got: n + 1,
                limit: SCRATCHES,
            });
        }
        let operand = Operand::Scratch(n as u8);
        let view = View::scratch(operand, dtype, shape, strides)?;
        let bytes = elements(shape) * dtype.size();
        self.scratch.push(Scratch { operand, bytes });
        Ok(view)
    }

    /// Lets a family plan that may refuse half-way: then nothing of it is left.
    pub(crate) fn attempt<T>(&mut self, plan: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
        let (steps, scratch, unused) = (self.steps.len(), self.scratch.len(), self.unused);
        let planned = plan(self);
        if planned.is_err() {
            self.steps.truncate(steps);
            self.scratch.truncate(scratch);
            self.unused = unused;
        }
        planned
    }
}
