//! A kernel: its parameters, declarations and instructions.

use super::lex::{Cursor, Token};
use super::operand::{Operand, operand_or_pair};
use super::scope::{Class, Register, ScopeId, Scopes};
use super::variable::{ModuleShared, variable};
use super::{align, fail};
use crate::error::Result;
use crate::ir::Space;
use std::collections::HashMap;

/// An instruction.
#[derive(Debug, Clone)]
pub struct Statement {
    pub line: u32,
    /// Predicate, and whether it is negated.
    pub guard: Option<(Register, bool)>,
    pub op: String,
    pub args: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub offset: usize,
    pub bytes: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Kernel {
    pub name: String,
    pub params: Vec<Parameter>,
    pub param_bytes: usize,
    pub statements: Vec<Statement>,
    /// Registers of each class.
    pub words: u32,
    pub wides: u32,
    pub predicates: u32,
    pub names: HashMap<Register, String>,
    pub local_bytes: usize,
    pub static_shared: usize,
    pub uses_dynamic_shared: bool,
    pub dynamic_align: usize,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    /// `.reqnctapercluster`
    pub cluster: Option<[u32; 3]>,
    /// The launch must give cluster dimensions.
    pub explicit_cluster: bool,
    pub max_cluster: Option<u32>,
}

impl Kernel {
    /// Where dynamic shared memory starts.
    pub fn dynamic_offset(&self) -> usize {
        align(self.static_shared, self.dynamic_align)
    }

    fn allocate(&mut self, class: Class, count: u32) -> Register {
        let counter = match class {
            Class::Predicate => &mut self.predicates,
            Class::Word => &mut self.words,
            Class::Wide => &mut self.wides,
        };
        let id = *counter;
        *counter += count;
        Register { class, id }
    }
}

/// Stands for the start of dynamic shared memory, which comes after all static variables.
const DYNAMIC: i64 = 1 << 40;

/// A jump whose target may come later.
struct Jump {
    statement: usize,
    target: String,
    scope: ScopeId,
}

/// What comes after `.entry`.
pub fn kernel(cursor: &mut Cursor, scopes: &mut Scopes, shared: &ModuleShared) -> Result<Kernel> {
    let mut k = Kernel {
        name: cursor.word()?,
        static_shared: shared.bytes,
        uses_dynamic_shared: !shared.dynamic.is_empty(),
        dynamic_align: shared.dynamic_align,
        ..Kernel::default()
    };
    scopes.enter();
    parameters(cursor, scopes, &mut k)?;
    header(cursor, &mut k)?;
    for name in &shared.dynamic {
        scopes.add_variable(name.clone(), Space::Shared, DYNAMIC);
    }
    let jumps = body(cursor, scopes, &mut k)?;
    for jump in jumps {
        let statement = &mut k.statements[jump.statement];
        match scopes.label(jump.scope, &jump.target) {
            Some(at) => statement.args = vec![Operand::Label(at)],
            None => return fail(statement.line, format!("unknown label {}", jump.target)),
        }
    }
    let offset = k.dynamic_offset() as i64;
    for statement in &mut k.statements {
        statement.args.iter_mut().for_each(|a| place(a, offset));
    }
    Ok(k)
}

fn parameters(cursor: &mut Cursor, scopes: &mut Scopes, k: &mut Kernel) -> Result<()> {
    if !cursor.eat('(') {
        return Ok(());
    }
    while !cursor.eat(')') {
        let line = cursor.line();
        if !cursor.eat_word(".param") {
            return fail(line, "expected .param");
        }
        let v = variable(cursor)?;
        let offset = align(k.param_bytes, v.align);
        k.param_bytes = offset + v.bytes;
        scopes.add_variable(v.name.clone(), Space::Param, offset as i64);
        k.params.push(Parameter {
            name: v.name,
            offset,
            bytes: v.bytes,
        });
        cursor.eat(',');
    }
    Ok(())
}

/// Directives between the parameters and the body.
fn header(cursor: &mut Cursor, k: &mut Kernel) -> Result<()> {
    while !cursor.eat('{') {
        let line = cursor.line();
        match cursor.word()?.as_str() {
            ".maxntid" => k.maxntid = Some(cursor.dims()?),
            ".reqntid" => k.reqntid = Some(cursor.dims()?),
            ".reqnctapercluster" => k.cluster = Some(cursor.dims()?),
            ".explicitcluster" => k.explicit_cluster = true,
            ".maxclusterrank" => k.max_cluster = Some(cursor.dims()?[0]),
            ".minnctapersm" | ".maxnctapersm" | ".maxnreg" => drop(cursor.dims()?),
            other => return fail(line, format!("unsupported directive {other}")),
        }
    }
    Ok(())
}

fn body(cursor: &mut Cursor, scopes: &mut Scopes, k: &mut Kernel) -> Result<Vec<Jump>> {
    let mut jumps = Vec::new();
    loop {
        let line = cursor.line();
        let Some(token) = cursor.peek() else {
            return fail(line, "the kernel does not end");
        };
        match token {
            Token::Mark('{') => {
                cursor.advance();
                scopes.enter();
            }
            Token::Mark('}') => {
                cursor.advance();
                scopes.leave();
                if scopes.at_module() {
                    return Ok(jumps);
                }
            }
            Token::Mark(';') => cursor.advance(),
            Token::Word(word) if word.starts_with('.') => declaration(cursor, scopes, k)?,
            Token::Word(_) if cursor.is_second(':') => {
                let label = cursor.word()?;
                cursor.advance();
                if !scopes.add_label(&label, k.statements.len()) {
                    return fail(line, format!("label {label} is defined twice"));
                }
            }
            _ => statement(cursor, scopes, k, &mut jumps)?,
        }
    }
}

fn declaration(cursor: &mut Cursor, scopes: &mut Scopes, k: &mut Kernel) -> Result<()> {
    let line = cursor.line();
    match cursor.word()?.as_str() {
        ".reg" => return registers(cursor, scopes, k),
        ".local" => {
            let v = variable(cursor)?;
            let offset = align(k.local_bytes, v.align);
            k.local_bytes = offset + v.bytes;
            scopes.add_variable(v.name, Space::Local, offset as i64);
        }
        ".shared" => {
            let v = variable(cursor)?;
            let offset = align(k.static_shared, v.align);
            k.static_shared = offset + v.bytes;
            scopes.add_variable(v.name, Space::Shared, offset as i64);
        }
        ".pragma" => {}
        other => return fail(line, format!("unsupported directive {other}")),
    }
    cursor.skip_past(';');
    Ok(())
}

/// `.reg .f32 a, b<16>;`
fn registers(cursor: &mut Cursor, scopes: &mut Scopes, k: &mut Kernel) -> Result<()> {
    let line = cursor.line();
    let class = match cursor.word()?.as_str() {
        ".pred" => Class::Predicate,
        ".b64" | ".u64" | ".s64" | ".f64" => Class::Wide,
        ".b128" | ".v2" | ".v4" => return fail(line, "unsupported register type"),
        _ => Class::Word,
    };
    loop {
        let name = cursor.word()?;
        if cursor.eat('<') {
            let count = cursor.integer()? as u32;
            cursor.expect('>')?;
            let first = k.allocate(class, count);
            for i in 0..count {
                let id = first.id + i;
                k.names.insert(Register { class, id }, format!("{name}{i}"));
            }
            scopes.add_range(name, first, count);
        } else {
            let register = k.allocate(class, 1);
            k.names.insert(register, name.clone());
            scopes.add_register(name, register);
        }
        if !cursor.eat(',') {
            return cursor.expect(';');
        }
    }
}

fn statement(
    cursor: &mut Cursor,
    scopes: &Scopes,
    k: &mut Kernel,
    jumps: &mut Vec<Jump>,
) -> Result<()> {
    let line = cursor.line();
    let guard = guard(cursor, scopes)?;
    let op = cursor.word()?;
    let mut args = Vec::new();
    if op == "bra" || op.starts_with("bra.") {
        jumps.push(Jump {
            statement: k.statements.len(),
            target: cursor.word()?,
            scope: scopes.current(),
        });
    }
    while !cursor.eat(';') {
        if cursor.peek().is_none() {
            return fail(line, "the instruction does not end");
        }
        if !cursor.eat(',') {
            args.push(operand_or_pair(cursor, scopes)?);
        }
    }
    k.statements.push(Statement {
        line,
        guard,
        op,
        args,
    });
    Ok(())
}

fn guard(cursor: &mut Cursor, scopes: &Scopes) -> Result<Option<(Register, bool)>> {
    if !cursor.eat('@') {
        return Ok(None);
    }
    let negated = cursor.eat('!');
    let line = cursor.line();
    let name = cursor.word()?;
    match scopes.register(&name) {
        Some(register) if register.class == Class::Predicate => Ok(Some((register, negated))),
        _ => fail(line, format!("{name} is no predicate")),
    }
}

/// Replaces the stand-in for the start of dynamic shared memory.
fn place(operand: &mut Operand, offset: i64) {
    match operand {
        Operand::Variable(Space::Shared, at) if *at >= DYNAMIC / 2 => *at += offset - DYNAMIC,
        Operand::Memory(base, _, _) => place(base, offset),
        _ => {}
    }
}
