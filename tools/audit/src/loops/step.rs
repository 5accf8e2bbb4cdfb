//! An instruction as the model of a scheduler sees it.

use super::class::Pipe;
use super::instruction::Instruction;
use super::machine::Machine;
use super::product::{Product, shared_bytes};

/// Cycles from issue to result, of instructions that set a scoreboard. Assumed.
const LATENCIES: [(&str, u32); 10] = [
    ("MUFU", 22),
    ("SHFL", 24),
    ("SYNCS", 24),
    ("LDS", 30),
    ("LDSM", 30),
    ("R2UR", 12),
    ("LDC", 30),
    ("BAR", 16),
    ("VOTE", 12),
    ("LDL", 40),
];
/// Of all others.
const LATENCY: u32 = 20;

/// What holds a warp beside scoreboards and pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    None,
    /// Until at most so many groups of products are pending.
    Products(usize),
    /// Until all warps of the cube are here.
    Meet,
    /// Until the warp before passes its turn.
    Turn,
    /// Passes the turn.
    Pass,
}

/// What the model needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// The pipe, and the cycles it is taken.
    pub pipe: Option<(Pipe, u32)>,
    pub latency: u32,
    pub cycles: u32,
    pub waits: u32,
    pub write_board: u32,
    pub read_board: u32,
    pub product: Option<Product>,
    /// Whether the product runs on while its warp goes on, until a wait.
    pub asynchronous: bool,
    /// Whether it ends a group of products that can be waited for.
    pub commits: bool,
    pub hold: Hold,
    /// Bytes of shared memory, of one warp.
    pub shared: f64,
}

/// Those of a loop. Where no warp passes a turn, a named barrier is one at which warps meet.
pub(crate) fn steps(path: &[&Instruction], machine: &Machine) -> Vec<Step> {
    let mut steps: Vec<Step> = path.iter().map(|i| Step::of(i, machine)).collect();
    if steps.iter().all(|step| step.hold != Hold::Pass) {
        let turns = steps.iter_mut().filter(|step| step.hold == Hold::Turn);
        turns.for_each(|step| step.hold = Hold::Meet);
    }
    steps
}

impl Step {
    pub fn of(instruction: &Instruction, machine: &Machine) -> Self {
        let pipe = Pipe::of(instruction);
        let (read, written) = shared_bytes(instruction);
        Self {
            pipe: pipe.map(|pipe| (pipe, cost(pipe, machine))),
            latency: latency(instruction.base()),
            cycles: instruction.cycles(),
            waits: instruction.waits,
            write_board: instruction.write_board,
            read_board: instruction.read_board,
            product: Product::of(instruction, machine),
            asynchronous: instruction.base() == "HGMMA",
            commits: instruction.base() == "HGMMA" && instruction.operands.contains("gsb0"),
            hold: hold(instruction),
            shared: read + written,
        }
    }
}

fn cost(pipe: Pipe, machine: &Machine) -> u32 {
    match pipe {
        Pipe::Special => machine.special,
        Pipe::Fma => machine.fma,
        Pipe::Alu => machine.alu,
    }
}

fn latency(base: &str) -> u32 {
    let known = LATENCIES.iter().find(|(name, _)| *name == base);
    known.map_or(LATENCY, |(_, cycles)| *cycles)
}

fn hold(instruction: &Instruction) -> Hold {
    if instruction.name.starts_with("WARPGROUP.DEPBAR") {
        let last = instruction.operands.rsplit(',').next().unwrap_or_default();
        let pending = last.trim().trim_start_matches("0x");
        return Hold::Products(usize::from_str_radix(pending, 16).unwrap_or(0));
    }
    match instruction.base() {
        "BAR" if instruction.operands.starts_with("0x0") => Hold::Meet,
        "BAR" if instruction.has("SYNC") => Hold::Turn,
        "BAR" if instruction.has("ARV") => Hold::Pass,
        _ => Hold::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(lines: &[&str]) -> Vec<Hold> {
        let code: Vec<_> = lines.iter().map(|line| Instruction::parse(line)).collect();
        let path: Vec<_> = code.iter().collect();
        let machine = Machine::of("sm_80").unwrap();
        steps(&path, &machine)
            .iter()
            .map(|step| step.hold)
            .collect()
    }

    #[test]
    fn turns_are_for_warps_that_pass_them() {
        let (wait, pass) = ("BAR.SYNC.DEFER_BLOCKING R2, 0x40", "BAR.ARV 0x2, 0x100");
        assert_eq!(holds(&[wait, pass]), [Hold::Turn, Hold::Pass]);
        assert_eq!(holds(&[wait]), [Hold::Meet]);
    }
}
