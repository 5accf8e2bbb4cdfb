//! PTX text to statements whose names are resolved.

mod lex;
mod module;
mod operand;
mod scope;
mod statement;
mod variable;

pub use module::{MODULE_BASE, parse};
pub use operand::Operand;
pub use scope::{Class, Register};
pub use statement::{Kernel, Statement};

use crate::error::{Error, Result};

/// A fault of the text.
fn fail<T>(line: u32, message: impl Into<String>) -> Result<T> {
    Err(Error::at(line, message))
}

fn align(x: usize, a: usize) -> usize {
    x.next_multiple_of(a.max(1))
}
