//! Declarations of variables: parameters, shared, local and global memory.

use super::fail;
use super::lex::{Cursor, Token, integer};
use crate::error::Result;
use crate::ty::Ty;

/// Shared memory that is declared outside of kernels, and is part of each.
#[derive(Default, Clone)]
pub struct ModuleShared {
    pub bytes: usize,
    /// Of dynamic shared memory.
    pub dynamic_align: usize,
    pub dynamic: Vec<String>,
}

pub struct Variable {
    pub name: String,
    pub align: usize,
    pub bytes: usize,
    /// Declared with `[]`: as much shared memory as the launch gives.
    pub dynamic: bool,
    /// The bytes it starts with, as far as they are given.
    pub initial: Vec<u8>,
}

/// `.align 8 .b8 name[16] = {...}`, what comes after the space.
pub fn variable(cursor: &mut Cursor) -> Result<Variable> {
    let (mut align, mut ty, mut vector) = (0, Ty::B32, 1);
    let line = cursor.line();
    let name = loop {
        let word = cursor.word()?;
        match word.strip_prefix('.') {
            None => break word,
            Some("align") => align = cursor.integer()? as usize,
            Some("v2") => vector = 2,
            Some("v4") => vector = 4,
            Some("ptr" | "global" | "const" | "shared" | "local") => {}
            Some(other) => match Ty::parse(other) {
                Some(found) => ty = found,
                None => return fail(line, format!("unsupported type .{other}")),
            },
        }
    };
    let element = ty.bytes() * vector;
    let dims = dimensions(cursor)?;
    let initial = if cursor.eat('=') {
        initial(cursor, ty)?
    } else {
        vec![]
    };
    Ok(Variable {
        name,
        align: align.max(element.min(16)),
        bytes: element * dims.iter().product::<usize>(),
        dynamic: dims.contains(&0),
        initial,
    })
}

/// `[2][16]`; 0 for `[]`.
fn dimensions(cursor: &mut Cursor) -> Result<Vec<usize>> {
    let mut dims = Vec::new();
    while cursor.eat('[') {
        if cursor.eat(']') {
            dims.push(0);
        } else {
            dims.push(cursor.integer()? as usize);
            cursor.expect(']')?;
        }
    }
    Ok(dims)
}

fn initial(cursor: &mut Cursor, ty: Ty) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut negative = false;
    while !cursor.is(';') {
        match cursor.peek() {
            None => return fail(cursor.line(), "unterminated declaration"),
            Some(Token::Mark('-')) => negative = true,
            Some(Token::Word(word)) => {
                let Some(v) = element(word, ty) else {
                    return fail(cursor.line(), format!("unsupported initial value {word}"));
                };
                let v = if negative { v.wrapping_neg() } else { v };
                negative = false;
                bytes.extend_from_slice(&v.to_le_bytes()[..ty.bytes()]);
            }
            _ => {}
        }
        cursor.advance();
    }
    Ok(bytes)
}

/// The bits of one initial value. A float is given in the format of its variable.
fn element(word: &str, ty: Ty) -> Option<i64> {
    let lower = word.to_ascii_lowercase();
    let (hex, format) = match (lower.strip_prefix("0f"), lower.strip_prefix("0d")) {
        (Some(hex), _) => (hex, Ty::F32),
        (_, Some(hex)) => (hex, Ty::F64),
        _ => return integer(word),
    };
    let bits = u64::from_str_radix(hex, 16).ok()?;
    (ty.bytes() == format.bytes()).then_some(bits as i64)
}
