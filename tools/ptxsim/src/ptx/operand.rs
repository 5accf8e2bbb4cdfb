//! Operands of instructions.

use super::fail;
use super::lex::{Cursor, integer};
use super::scope::{Register, Scopes};
use crate::error::Result;
use crate::ir::Space;

#[derive(Debug, Clone)]
pub enum Operand {
    Register(Register),
    NotRegister(Register),
    Integer(i64),
    /// Bits of an f32, which is nothing else.
    Float(u32),
    /// Bits of an f64, which becomes what the instruction computes with.
    Double(u64),
    /// `_`
    Sink,
    /// `%tid.x` and the like.
    Special(String),
    /// Address of a variable.
    Variable(Space, i64),
    Vector(Vec<Operand>),
    /// `[base + offset, {coordinates}]`
    Memory(Box<Operand>, i64, Vec<Operand>),
    /// Number of the statement.
    Label(usize),
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
}

/// An operand, or two with `|` between them.
pub fn operand_or_pair(cursor: &mut Cursor, scopes: &Scopes) -> Result<Operand> {
    let first = operand(cursor, scopes)?;
    if !cursor.eat('|') {
        return Ok(first);
    }
    let second = operand(cursor, scopes)?;
    Ok(Operand::Pair(first.into(), second.into()))
}

fn operand(cursor: &mut Cursor, scopes: &Scopes) -> Result<Operand> {
    let line = cursor.line();
    if cursor.eat('{') {
        return vector(cursor, scopes);
    }
    if cursor.eat('[') {
        return memory(cursor, scopes);
    }
    if cursor.eat('!') {
        let name = cursor.word()?;
        return match scopes.register(&name) {
            Some(register) => Ok(Operand::NotRegister(register)),
            None => fail(line, format!("unknown register {name}")),
        };
    }
    if cursor.eat('-') {
        return match operand(cursor, scopes)? {
            Operand::Integer(v) => Ok(Operand::Integer(v.wrapping_neg())),
            Operand::Float(v) => Ok(Operand::Float(v ^ 1 << 31)),
            Operand::Double(v) => Ok(Operand::Double(v ^ 1 << 63)),
            other => fail(line, format!("cannot negate {other:?}")),
        };
    }
    let word = cursor.word()?;
    named(cursor, scopes, &word)
}

fn vector(cursor: &mut Cursor, scopes: &Scopes) -> Result<Operand> {
    let mut items = Vec::new();
    while !cursor.eat('}') {
        if !cursor.eat(',') {
            items.push(operand(cursor, scopes)?);
        }
    }
    Ok(Operand::Vector(items))
}

fn memory(cursor: &mut Cursor, scopes: &Scopes) -> Result<Operand> {
    let base = operand(cursor, scopes)?;
    let mut offset = 0;
    let mut coordinates = Vec::new();
    while !cursor.eat(']') {
        if cursor.eat('+') {
            let negative = cursor.eat('-');
            let v = cursor.integer()?;
            offset += if negative { -v } else { v };
        } else if cursor.eat('-') {
            offset -= cursor.integer()?;
        } else {
            cursor.expect(',')?;
            coordinates = match operand(cursor, scopes)? {
                Operand::Vector(items) => items,
                one => vec![one],
            };
        }
    }
    Ok(Operand::Memory(base.into(), offset, coordinates))
}

fn named(cursor: &mut Cursor, scopes: &Scopes, word: &str) -> Result<Operand> {
    let line = cursor.line();
    if word == "_" {
        return Ok(Operand::Sink);
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return number(line, word);
    }
    if let Some(register) = scopes.register(word) {
        return Ok(Operand::Register(register));
    }
    if word == "WARP_SZ" {
        return Ok(Operand::Integer(32));
    }
    if let Some((space, mut offset)) = scopes.variable(word) {
        if cursor.eat('+') {
            offset += cursor.integer()?;
        }
        return Ok(Operand::Variable(space, offset));
    }
    if word.starts_with('%') {
        return Ok(Operand::Special(word.into()));
    }
    fail(line, format!("unknown name {word}"))
}

fn number(line: u32, word: &str) -> Result<Operand> {
    let lower = word.to_ascii_lowercase();
    let decimal = || word.parse().ok().map(|v: f64| Operand::Double(v.to_bits()));
    let operand = if let Some(hex) = lower.strip_prefix("0f") {
        u32::from_str_radix(hex, 16).ok().map(Operand::Float)
    } else if let Some(hex) = lower.strip_prefix("0d") {
        u64::from_str_radix(hex, 16).ok().map(Operand::Double)
    } else {
        integer(word).map(Operand::Integer).or_else(decimal)
    };
    match operand {
        Some(operand) => Ok(operand),
        None => fail(line, format!("{word} is not a number that is supported")),
    }
}
