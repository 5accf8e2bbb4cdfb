//! What an instruction of machine code is for.

use super::instruction::Instruction;

/// Groups of instructions, the columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Tensor,
    Special,
    Fma,
    MinMax,
    Convert,
    Integer,
    Move,
    Uniform,
    Shuffle,
    Memory,
    Wait,
    Branch,
    Other,
}

/// All, with the names of their columns.
pub(crate) const CLASSES: [(Class, &str); 13] = [
    (Class::Tensor, "products"),
    (Class::Special, "MUFU"),
    (Class::Fma, "FMA"),
    (Class::MinMax, "FMNMX"),
    (Class::Convert, "F2FP"),
    (Class::Integer, "integer, select"),
    (Class::Move, "MOV"),
    (Class::Uniform, "uniform"),
    (Class::Shuffle, "SHFL"),
    (Class::Memory, "memory"),
    (Class::Wait, "waits"),
    (Class::Branch, "branch"),
    (Class::Other, "other"),
];

/// Where a warp's instruction is executed, beside the tensor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipe {
    Special,
    Fma,
    Alu,
}

const INTEGER: [&str; 30] = [
    "IADD3",
    "IMAD",
    "LOP3",
    "ISETP",
    "SEL",
    "LEA",
    "SHF",
    "PRMT",
    "PLOP3",
    "IADD",
    "VIADD",
    "VIADDMNMX",
    "VIMNMX",
    "IMNMX",
    "R2P",
    "SGXT",
    "IABS",
    "BMSK",
    "CS2R",
    "P2R",
    "POPC",
    "FLO",
    "BREV",
    "FSEL",
    "FSETP",
    "FCHK",
    "I2I",
    "ISCADD",
    "LEPC",
    "IDP",
];
const CONVERT: [&str; 7] = ["F2FP", "F2F", "F2I", "I2F", "I2FP", "I2IP", "FRND"];
const FMA: [&str; 10] = [
    "FFMA", "FMUL", "FADD", "FFMA2", "FMUL2", "FADD2", "HFMA2", "HADD2", "HMUL2", "DFMA",
];
const MEMORY: [&str; 19] = [
    "LDS", "STS", "LDSM", "STSM", "LDC", "LDL", "STL", "LDG", "STG", "LD", "ST", "ULDC", "LDCU",
    "LDGSTS", "ATOMS", "ATOMG", "RED", "UTMALDG", "UBLKCP",
];
const WAIT: [&str; 15] = [
    "BAR",
    "SYNCS",
    "WARPGROUP",
    "WARPGROUPSET",
    "DEPBAR",
    "LDGDEPBAR",
    "ARRIVES",
    "UCGABAR_ARV",
    "UCGABAR_WAIT",
    "FENCE",
    "MEMBAR",
    "ERRBAR",
    "CCTL",
    "WARPSYNC",
    "NANOSLEEP",
];
const BRANCH: [&str; 13] = [
    "BRA", "BRX", "JMP", "CALL", "RET", "EXIT", "BSSY", "BSYNC", "BREAK", "VOTE", "ELECT", "YIELD",
    "BMOV",
];

impl Class {
    pub fn of(instruction: &Instruction) -> Self {
        let base = instruction.base();
        match base {
            _ if instruction.multiplies() => Self::Tensor,
            "MUFU" => Self::Special,
            "FMNMX" | "FMNMX3" => Self::MinMax,
            "SHFL" => Self::Shuffle,
            "MOV" => Self::Move,
            "IMAD" if instruction.has("MOV") => Self::Move,
            "R2UR" | "S2R" | "S2UR" | "VOTEU" => Self::Uniform,
            _ if FMA.contains(&base) => Self::Fma,
            _ if CONVERT.contains(&base) => Self::Convert,
            _ if INTEGER.contains(&base) => Self::Integer,
            _ if MEMORY.contains(&base) => Self::Memory,
            _ if WAIT.contains(&base) => Self::Wait,
            _ if BRANCH.contains(&base) => Self::Branch,
            _ if base.starts_with('U') => Self::Uniform,
            _ => Self::Other,
        }
    }
}

impl Pipe {
    pub fn of(instruction: &Instruction) -> Option<Self> {
        match Class::of(instruction) {
            Class::Special => Some(Self::Special),
            Class::Fma => Some(Self::Fma),
            // Multiplication of integers, and the moves that are made of it.
            _ if instruction.base() == "IMAD" => Some(Self::Fma),
            Class::MinMax | Class::Convert | Class::Integer | Class::Move => Some(Self::Alu),
            _ if instruction.base() == "VOTE" => Some(Self::Alu),
            _ => None,
        }
    }
}
