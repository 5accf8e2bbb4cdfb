//! From a listing to the steady loops of its kernel.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::class::Class;
use super::instruction::Instruction;
use super::listing::{self, Function};
use super::machine::Machine;
use super::predict::{Prediction, Shared};
use super::product::{self, Product};
use super::scheduler::Warps;
use super::step::steps;
use super::{flow, loads, path};

/// Warps of a warpgroup, and schedulers of a multiprocessor.
const FOUR: usize = 4;

/// What a launch of a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Threads of a cube.
    pub threads: usize,
    /// Registers of a thread.
    pub registers: usize,
    /// Shared memory of a cube, in bytes.
    pub shared_memory: usize,
}

/// A loop with products: one round of a warp, without a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Steady {
    /// Instructions by class.
    pub(crate) counts: BTreeMap<Class, usize>,
    /// Instructions.
    pub issued: usize,
    /// Cycles of the scheduler's tensor core.
    pub tensor: f64,
    /// Exponentials, and those that stand between the wait for some products and the wait for all.
    pub exponentials: [usize; 2],
    /// Waits for products, for mbarriers, at barriers.
    pub waits: [usize; 3],
    /// Warps that share a scheduler: a warp of each warpgroup that computes, or of each cube.
    pub warps: usize,
    /// Bytes of shared memory that all warps of a multiprocessor read in a round, and that are written, by TMA as well.
    pub shared: [f64; 2],
    /// Whether what TMA writes is known.
    pub loads_known: bool,
    /// What the model says, unless it gets stuck.
    pub prediction: Option<Prediction>,
}

impl Steady {
    /// Bytes of shared memory read and written in a cycle of the tensor cores.
    pub fn shared_a_cycle(&self) -> [f64; 2] {
        let cycles = self.tensor * self.warps as f64;
        self.shared.map(|bytes| bytes / cycles)
    }
}

/// The loops with products of a kernel's machine code, as the disassembler prints it: first the main one, with the most products and then
/// the fewest instructions. Empty if it has none.
///
/// # Errors
/// If the architecture has no model.
pub fn steady(listing: &str, arch: &str, launch: &Launch) -> Result<Vec<Steady>> {
    let machine = Machine::of(arch).with_context(|| format!("no model of {arch}"))?;
    let mut all = Vec::new();
    for function in listing::parse(listing) {
        let loads = loads::bytes(&function);
        let warps = warps(&function, &machine, launch);
        for l in flow::innermost(&function, |at| function.code[at].multiplies()) {
            if let Some(path) = path::steady(&function, &l) {
                let path: Vec<&Instruction> = path.iter().map(|at| &function.code[*at]).collect();
                all.push(measure(&path, &machine, warps, loads));
            }
        }
    }
    all.sort_by(|a, b| b.tensor.total_cmp(&a.tensor).then(a.issued.cmp(&b.issued)));
    Ok(all)
}

/// The warps of a scheduler that compute. A warpgroup that gives up registers loads.
fn warps(function: &Function, machine: &Machine, launch: &Launch) -> Warps {
    let loads = function
        .code
        .iter()
        .any(|i| i.base() == "USETMAXREG" && i.has("DEALLOC"));
    let warps = launch.threads.div_ceil(32) - if loads { FOUR } else { 0 };
    let of_cube = warps.div_ceil(FOUR).max(1);
    let cubes = machine.cubes(launch.threads, launch.registers, launch.shared_memory);
    Warps {
        count: of_cube * cubes,
        of_cube,
    }
}

fn measure(path: &[&Instruction], machine: &Machine, warps: Warps, loads: Option<f64>) -> Steady {
    let steps = steps(path, machine);
    let mut counts = BTreeMap::new();
    path.iter()
        .for_each(|i| *counts.entry(Class::of(i)).or_default() += 1);
    let products = || steps.iter().filter_map(|step| step.product);
    let all = warps.count as f64;
    let (read, written) = path
        .iter()
        .map(|i| product::shared_bytes(i))
        .fold((0.0, 0.0), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1));
    let each = all * FOUR as f64;
    let shared = Shared {
        products: products().map(|p: Product| p.bytes).sum::<f64>() * all,
        ordinary: (read + written) * each,
        loads: loads.unwrap_or(0.0),
    };
    Steady {
        counts,
        issued: path.len(),
        tensor: products().map(|p| p.cycles).sum(),
        exponentials: exponentials(path),
        waits: waits(path),
        warps: warps.count,
        shared: [shared.products + read * each, shared.loads + written * each],
        loads_known: loads.is_some() || written > 0.0,
        prediction: Prediction::of(&steps, warps, &shared),
    }
}

fn exponentials(path: &[&Instruction]) -> [usize; 2] {
    let (mut running, mut all, mut hidden) = (false, 0, 0);
    for instruction in path {
        if instruction.name.starts_with("WARPGROUP.DEPBAR") {
            running = !instruction.operands.ends_with("0x0");
        }
        if instruction.base() == "MUFU" && instruction.has("EX2") {
            all += 1;
            hidden += usize::from(running);
        }
    }
    [all, hidden]
}

fn waits(path: &[&Instruction]) -> [usize; 3] {
    let count = |wanted: &dyn Fn(&Instruction) -> bool| path.iter().filter(|i| wanted(i)).count();
    [
        count(&|i| i.name.starts_with("WARPGROUP.DEPBAR") || i.base() == "DEPBAR"),
        count(&|i| i.name.starts_with("SYNCS.PHASECHK")),
        count(&|i| i.base() == "BAR" && i.has("SYNC")),
    ]
}
