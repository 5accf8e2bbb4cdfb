//! Names of registers, variables and labels, and the blocks in which they are known.

use crate::ir::Space;
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Predicate,
    /// Up to 32 bits.
    Word,
    /// 64 bits.
    Wide,
}

/// A register: class and index within its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register {
    pub class: Class,
    pub id: u32,
}

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    registers: HashMap<String, Register>,
    /// `.reg .f32 acc<64>`: name to the first register and their number.
    ranges: HashMap<String, (Register, u32)>,
    labels: HashMap<String, usize>,
    variables: HashMap<String, (Space, i64)>,
}

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeId(usize);

/// All blocks of a module and the one that is being read.
pub struct Scopes {
    all: Vec<Scope>,
    current: usize,
}

impl Scopes {
    /// The module's own.
    pub fn new() -> Self {
        Self {
            all: vec![Scope::default()],
            current: 0,
        }
    }

    pub fn current(&self) -> ScopeId {
        ScopeId(self.current)
    }

    pub fn enter(&mut self) {
        let parent = Some(self.current);
        self.all.push(Scope {
            parent,
            ..Scope::default()
        });
        self.current = self.all.len() - 1;
    }

    /// Whether a block is left that is not the module's.
    pub fn leave(&mut self) {
        self.current = self.all[self.current].parent.unwrap_or(0);
    }

    pub fn at_module(&self) -> bool {
        self.current == 0
    }

    pub fn add_register(&mut self, name: String, register: Register) {
        self.all[self.current].registers.insert(name, register);
    }

    pub fn add_range(&mut self, name: String, first: Register, count: u32) {
        self.all[self.current].ranges.insert(name, (first, count));
    }

    pub fn add_variable(&mut self, name: String, space: Space, offset: i64) {
        let variables = &mut self.all[self.current].variables;
        variables.insert(name, (space, offset));
    }

    /// False if the block has a label of this name.
    pub fn add_label(&mut self, name: &str, statement: usize) -> bool {
        let labels = &mut self.all[self.current].labels;
        labels.insert(name.into(), statement).is_none()
    }

    /// The first that is known in a block or in one around it.
    fn find<T>(&self, from: usize, get: impl Fn(&Scope) -> Option<T>) -> Option<T> {
        let mut next = Some(from);
        while let Some(id) = next {
            let scope = &self.all[id];
            if let Some(found) = get(scope) {
                return Some(found);
            }
            next = scope.parent;
        }
        None
    }

    pub fn variable(&self, name: &str) -> Option<(Space, i64)> {
        self.find(self.current, |s| s.variables.get(name).copied())
    }

    pub fn label(&self, from: ScopeId, name: &str) -> Option<usize> {
        self.find(from.0, |s| s.labels.get(name).copied())
    }

    pub fn register(&self, name: &str) -> Option<Register> {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: Option<u32> = name[prefix.len()..].parse().ok();
        self.find(self.current, |scope| {
            if let Some(register) = scope.registers.get(name) {
                return Some(*register);
            }
            let (first, count) = scope.ranges.get(prefix)?;
            let number = number.filter(|n| n < count)?;
            let id = first.id + number;
            Some(Register { id, ..*first })
        })
    }
}
