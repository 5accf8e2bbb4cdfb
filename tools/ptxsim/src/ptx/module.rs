//! A module: its variables and kernels.

use super::lex::Cursor;
use super::scope::Scopes;
use super::statement::{Kernel, kernel};
use super::variable::{ModuleShared, variable};
use super::{align, fail};
use crate::error::{Error, Result};
use crate::ir::Space;
use crate::target::Target;

/// Where the module's `.global` and `.const` variables lie.
pub const MODULE_BASE: u64 = 0x0000_6000_0000_0000;

#[derive(Default)]
pub struct ModuleText {
    /// What it was made for, if it says so.
    pub target: Option<Target>,
    /// What the `.global` and `.const` variables start with.
    pub data: Vec<u8>,
    pub kernels: Vec<Kernel>,
}

pub fn parse(source: &str) -> Result<ModuleText> {
    let mut cursor = Cursor::new(source);
    let mut scopes = Scopes::new();
    let mut module = ModuleText::default();
    let mut shared = ModuleShared::default();
    while cursor.peek().is_some() {
        if cursor.eat(';') {
            continue;
        }
        let line = cursor.line();
        let directive = cursor.word()?;
        match directive.as_str() {
            ".version" | ".address_size" => drop(cursor.word()?),
            ".target" => {
                let name = cursor.word()?;
                module.target = Some(Target::parse(&name).map_err(|it| Error::at(line, it))?);
                while cursor.eat(',') {
                    cursor.word()?;
                }
            }
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".global" | ".const" => global(&mut cursor, &mut scopes, &mut module)?,
            ".shared" => module_shared(&mut cursor, &mut scopes, &mut shared)?,
            ".section" => {
                cursor.word()?;
                cursor.skip_block();
            }
            ".pragma" => cursor.skip_past(';'),
            ".entry" => module
                .kernels
                .push(kernel(&mut cursor, &mut scopes, &shared)?),
            ".func" => return fail(line, "device functions are not supported"),
            other => return fail(line, format!("unsupported directive {other}")),
        }
    }
    Ok(module)
}

fn global(cursor: &mut Cursor, scopes: &mut Scopes, module: &mut ModuleText) -> Result<()> {
    let mut v = variable(cursor)?;
    cursor.skip_past(';');
    let offset = align(module.data.len(), v.align.max(16));
    v.initial.resize(v.bytes, 0);
    module.data.resize(offset, 0);
    module.data.append(&mut v.initial);
    scopes.add_variable(v.name, Space::Global, MODULE_BASE as i64 + offset as i64);
    Ok(())
}

fn module_shared(
    cursor: &mut Cursor,
    scopes: &mut Scopes,
    shared: &mut ModuleShared,
) -> Result<()> {
    let v = variable(cursor)?;
    cursor.skip_past(';');
    if v.dynamic {
        shared.dynamic_align = shared.dynamic_align.max(v.align);
        shared.dynamic.push(v.name);
    } else {
        let offset = align(shared.bytes, v.align);
        shared.bytes = offset + v.bytes;
        scopes.add_variable(v.name, Space::Shared, offset as i64);
    }
    Ok(())
}
