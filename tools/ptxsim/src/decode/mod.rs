//! Statements to decoded instructions.

mod arithmetic;
mod asynchronous;
mod control;
mod data;
mod matrices;
mod needs;
mod opcode;
mod operands;
mod tensor_core;
mod wmma;

use crate::error::{Error, Result};
use crate::ir::*;
use crate::ptx::{Class, Kernel, Statement};
use crate::target::Target;
use opcode::Opcode;
use operands::Decoder;

/// Shared memory starts here in the shared window: the first KiB is reserved, as on sm_90.
pub const SHARED_START: u32 = 1024;

/// Says what is wrong; the caller knows where.
type Decoded<T> = std::result::Result<T, String>;

/// Decodes the instructions it knows; none for others.
type Family = fn(&mut Decoder, &Opcode) -> Decoded<Option<Op>>;

const FAMILIES: [Family; 6] = [
    arithmetic::decode,
    data::decode,
    control::decode,
    tensor_core::decode,
    asynchronous::mbarrier,
    asynchronous::copy,
];

/// Instructions of a kernel, as far as the target has them; without one, all.
pub fn decode(kernel: &Kernel, target: Option<Target>) -> Result<Code> {
    let mut decoder = Decoder::new(kernel);
    let mut code = Code::new();
    for statement in &kernel.statements {
        let op = needs::check(&statement.op, target)
            .and_then(|()| instruction(&mut decoder, statement))
            .map_err(|m| Error::at(statement.line, format!("{}: {m}", statement.op)))?;
        let guard = statement.guard.map(|(p, neg)| PSrc { p: p.id, neg });
        let (uses, defs) = decoder.touched();
        code.push(op, guard, statement.line, uses, defs);
    }
    let line = kernel.statements.last().map_or(0, |s| s.line);
    code.push(Op::Exit, None, line, &[], &[]);
    decoder.finish(&mut code);
    code.register_names = register_names(kernel);
    Ok(code)
}

fn instruction<'a>(decoder: &mut Decoder<'a>, statement: &'a Statement) -> Decoded<Op> {
    decoder.begin(&statement.args);
    let opcode = Opcode::new(&statement.op);
    for family in FAMILIES {
        if let Some(op) = family(decoder, &opcode)? {
            return match opcode.unknown() {
                Some(modifier) => Err(format!("unsupported modifier .{modifier}")),
                None => Ok(op),
            };
        }
    }
    Err("unsupported instruction".into())
}

/// By slot.
fn register_names(kernel: &Kernel) -> Vec<String> {
    let mut names = vec![String::new(); (kernel.words + 2 * kernel.wides) as usize];
    for (register, name) in &kernel.names {
        match register.class {
            Class::Word => names[register.id as usize] = name.clone(),
            Class::Wide => {
                let slot = (kernel.words + 2 * register.id) as usize;
                names[slot] = name.clone();
                names[slot + 1] = name.clone();
            }
            Class::Predicate => {}
        }
    }
    names
}
