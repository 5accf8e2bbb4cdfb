//! Which part of a multiprocessor an instruction is for.

use core::fmt;

use crate::ir::*;
use crate::ty::Ty;

/// A part of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pipe {
    /// Matrix products.
    Tensor,
    /// Exponentials, logarithms, reciprocals, roots, division.
    Special,
    /// Float addition and multiplication.
    Fma,
    /// Float minimum and maximum, comparison, selection.
    Compare,
    /// Integer and logic.
    Integer,
    /// From one type to another.
    Convert,
    /// Double precision.
    Double,
    /// Moves, packing, addresses from one space to another.
    Move,
    /// Exchange between lanes: shuffles, votes.
    Exchange,
    /// Shared memory.
    Shared,
    /// Global memory.
    Global,
    /// Local memory: arrays of a thread.
    Local,
    /// Kernel parameters.
    Parameter,
    /// Asynchronous copies.
    Copy,
    /// Barriers, waits, fences.
    Synchronise,
    /// Branches, exits.
    Branch,
}

impl Pipe {
    /// All of them, in the order of tables.
    pub const ALL: [Pipe; 16] = [
        Pipe::Tensor,
        Pipe::Special,
        Pipe::Fma,
        Pipe::Compare,
        Pipe::Integer,
        Pipe::Convert,
        Pipe::Double,
        Pipe::Move,
        Pipe::Exchange,
        Pipe::Shared,
        Pipe::Global,
        Pipe::Local,
        Pipe::Parameter,
        Pipe::Copy,
        Pipe::Synchronise,
        Pipe::Branch,
    ];

    /// That of an instruction; for generic addresses that of global memory.
    pub(crate) fn of(op: &Op) -> Self {
        arithmetic(op)
            .or_else(|| memory(op))
            .unwrap_or_else(|| control(op))
    }

    pub(crate) fn of_space(space: Space) -> Self {
        match space {
            Space::Shared | Space::Cluster => Pipe::Shared,
            Space::Global | Space::Generic => Pipe::Global,
            Space::Local => Pipe::Local,
            Space::Param => Pipe::Parameter,
        }
    }
}

fn arithmetic(op: &Op) -> Option<Pipe> {
    Some(match op {
        Op::Fma(Ty::F64, ..) | Op::Float1(_, Ty::F64, ..) | Op::Float2(_, Ty::F64, ..) => {
            Pipe::Double
        }
        Op::Fma(..) => Pipe::Fma,
        Op::Float1(Float1::Neg | Float1::Abs, ..) => Pipe::Compare,
        Op::Float1(..) | Op::Float2(Float2::Div, ..) => Pipe::Special,
        Op::Float2(Float2::Min | Float2::Max, ..) => Pipe::Compare,
        Op::Float2(..) => Pipe::Fma,
        Op::Setp(_) | Op::Select { .. } | Op::Boolean(..) | Op::MovPredicate(..) => Pipe::Compare,
        Op::Int1(..) | Op::Int2(..) | Op::Int3(..) | Op::Bfi { .. } => Pipe::Integer,
        Op::MulWide(..) | Op::MadWide(..) | Op::Mad { .. } => Pipe::Integer,
        Op::Convert(_) | Op::ToTf32(..) => Pipe::Convert,
        Op::Mov32(..) | Op::Mov64(..) | Op::Pack { .. } | Op::Unpack { .. } => Pipe::Move,
        Op::ToGeneric(..) | Op::FromGeneric(..) | Op::Mapa { .. } => Pipe::Move,
        Op::ActiveMask(_) | Op::Clock(..) => Pipe::Move,
        Op::Mma(_) | Op::Wmma(_) | Op::Wgmma(_) => Pipe::Tensor,
        _ => return None,
    })
}

fn memory(op: &Op) -> Option<Pipe> {
    Some(match op {
        Op::Ld { space, .. } | Op::St { space, .. } => Pipe::of_space(*space),
        Op::Atom(s) => Pipe::of_space(s.space),
        Op::WmmaLoad(s) | Op::WmmaStore(s) => Pipe::of_space(s.space),
        Op::Ldmatrix { .. } | Op::Stmatrix { .. } => Pipe::Shared,
        Op::CpAsync(_) | Op::BulkLoad(_) | Op::BulkStore(_) => Pipe::Copy,
        _ => return None,
    })
}

fn control(op: &Op) -> Pipe {
    match op {
        Op::Exchange { .. } => Pipe::Exchange,
        Op::Bra(_) | Op::Exit | Op::Trap | Op::Yield | Op::Nop => Pipe::Branch,
        _ => Pipe::Synchronise,
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pipe::Tensor => "tensor",
            Pipe::Special => "special",
            Pipe::Fma => "fma",
            Pipe::Compare => "compare",
            Pipe::Integer => "integer",
            Pipe::Convert => "convert",
            Pipe::Double => "double",
            Pipe::Move => "move",
            Pipe::Exchange => "exchange",
            Pipe::Shared => "shared",
            Pipe::Global => "global",
            Pipe::Local => "local",
            Pipe::Parameter => "parameter",
            Pipe::Copy => "copy",
            Pipe::Synchronise => "synchronise",
            Pipe::Branch => "branch",
        })
    }
}
