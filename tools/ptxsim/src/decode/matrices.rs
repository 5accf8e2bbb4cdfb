//! Operands of the products of matrices.

use super::Decoded;
use super::opcode::Opcode;
use crate::ir::*;

/// The types of the matrices, tf32 among them.
pub fn numbers(o: &Opcode) -> Vec<Number> {
    o.all(|m| {
        Some(match m {
            "f16" => Number::F16,
            "bf16" => Number::BF16,
            "tf32" => Number::TF32,
            "f32" => Number::F32,
            _ => return None,
        })
    })
}

/// Operands as registers, of which there must be so many.
pub fn registers(registers: Vec<S>, count: usize) -> Decoded<Vec<S>> {
    match registers.len() {
        n if n == count => Ok(registers),
        n => Err(format!("{n} registers, not {count}, for a matrix")),
    }
}
