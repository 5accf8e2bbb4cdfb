//! The outstanding copies of a lane.

use super::address::Loc;
use std::collections::VecDeque;

/// An outstanding copy.
#[derive(Debug, Clone)]
pub struct Copy {
    pub pc: u32,
    pub shared: Loc,
    pub global: u64,
    /// bytes that are read
    pub read: usize,
    /// bytes that are written
    pub bytes: usize,
}

impl Copy {
    pub fn writes(&self, p: Loc) -> bool {
        self.shared.cta == p.cta && (self.shared.o..self.shared.o + self.bytes).contains(&p.o)
    }
}

/// The copies of a lane.
#[derive(Debug, Clone, Default)]
pub struct LaneCopies {
    pub open: Vec<Copy>,
    pub groups: VecDeque<Vec<Copy>>,
}

impl LaneCopies {
    /// The instruction whose copy writes a byte.
    pub fn writer(&self, p: Loc) -> Option<u32> {
        let copies = self.open.iter().chain(self.groups.iter().flatten());
        let mut copies = copies.filter(|c| c.writes(p));
        copies.next().map(|c| c.pc)
    }
}
