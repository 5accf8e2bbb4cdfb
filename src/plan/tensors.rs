//! The tensors that a plan is run on, and those that it was made for.

use cubecl::prelude::Client;

use super::operand::Operand;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::tensor::Tensor;

/// Tensors for the operands of a plan.
#[derive(Debug, Clone, Default)]
pub struct Bindings<'a> {
    tensors: Vec<(Operand, &'a Tensor)>,
}

impl<'a> Bindings<'a> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the tensor of an operand.
    pub fn with(mut self, operand: Operand, tensor: &'a Tensor) -> Self {
        self.tensors.push((operand, tensor));
        self
    }

    /// The same where there may be none.
    pub fn with_optional(self, operand: Operand, tensor: Option<&'a Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.with(operand, tensor),
            None => self,
        }
    }

    /// The tensor of an operand.
    pub fn get(&self, operand: Operand) -> Option<&'a Tensor> {
        let mut tensors = self.tensors.iter();
        let found = tensors.find(|(name, _)| *name == operand)?;
        Some(found.1)
    }

    /// Those that are read or, as `written` says, written, as a plan will expect them again.
    pub(crate) fn expected(&self, written: &[Operand]) -> Vec<Expected> {
        let expect = |(operand, tensor): &(Operand, &Tensor)| Expected {
            operand: *operand,
            dtype: tensor.dtype(),
            layout: tensor.layout().clone(),
            residue: tensor.residue(),
            written: written.contains(operand),
        };
        self.tensors.iter().map(expect).collect()
    }

    /// Refuses a tensor that the plan knows nothing of.
    pub(super) fn check_all_used(&self, expected: &[Expected]) -> Result<()> {
        let known = |operand| expected.iter().any(|one| one.operand == operand);
        match self.tensors.iter().find(|(operand, _)| !known(*operand)) {
            None => Ok(()),
            Some((operand, _)) => Err(Error::Presence {
                tensor: operand.name(),
                problem: "given, but the plan has no use for it",
            }),
        }
    }
}

/// A tensor that a plan was made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Expected {
    pub operand: Operand,
    dtype: DType,
    layout: Layout,
    /// Bytes that the buffer begins past a multiple of 256.
    residue: usize,
    pub written: bool,
}

/// The alignment that kernels can make use of, in bytes.
const ALIGNMENT: usize = 16;

impl Expected {
    /// The tensor that is given for the operand, if it is what was planned for.
    pub(super) fn take<'a>(&self, client: &Client, tensors: &Bindings<'a>) -> Result<&'a Tensor> {
        let name = self.operand.name();
        let tensor = tensors.get(self.operand).ok_or(Error::Presence {
            tensor: name,
            problem: "missing, but the plan was made with it",
        })?;
        if tensor.handle().service != client.service_id() {
            return Err(Error::OtherDevice { tensor: name });
        }
        if tensor.dtype() != self.dtype {
            return Err(Error::TypeMismatch {
                tensor: name,
                got: tensor.dtype(),
                expected: self.dtype,
            });
        }
        self.check_place(tensor)?;
        tensor.check_bounds(name)?;
        Ok(tensor)
    }

    fn check_place(&self, tensor: &Tensor) -> Result<()> {
        let aligned = tensor.residue() % ALIGNMENT == self.residue % ALIGNMENT;
        if *tensor.layout() == self.layout && aligned {
            return Ok(());
        }
        Err(Error::Plan {
            tensor: self.operand.name(),
            got: place(tensor.layout(), tensor.residue()),
            expected: place(&self.layout, self.residue),
        })
    }
}

fn place(layout: &Layout, residue: usize) -> String {
    let Layout {
        offset,
        shape,
        strides,
    } = layout;
    let past = residue % ALIGNMENT;
    format!(
        "offset {offset}, shape {shape:?}, strides {strides:?}, \
         a buffer that begins {past} bytes past a multiple of {ALIGNMENT}"
    )
}
