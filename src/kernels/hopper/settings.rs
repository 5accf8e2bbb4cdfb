//! Which settings a problem gets, and whether the kernel can be made with them.

use super::accumulator::THREADS;
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::tuning::{HopperSettings, Limits, MaskKind, hopper_shipped};

/// Settings for a problem, if the table has its dimensions.
pub(crate) fn hopper_settings(problem: &Problem) -> Option<HopperSettings> {
    let mask = mask_kind(problem);
    hopper_shipped()
        .find(|row| {
            row.maps == problem.maps
                && row.head_dim == problem.head_dim
                && row.value_dim == problem.value_dim
                && row.mask == mask
        })
        .map(|row| row.settings)
}

fn mask_kind(problem: &Problem) -> MaskKind {
    let (sides, ..) = problem.band();
    match (sides.left, sides.right) {
        (true, _) => MaskKind::Window,
        (false, true) => MaskKind::Causal,
        (false, false) => MaskKind::Full,
    }
}

/// Registers of a thread for everything but scores, weights and sums.
const OTHER_REGISTERS: usize = 36;
/// Registers of a multiprocessor.
const REGISTER_FILE: usize = 65_536;
/// The fewest that a thread can be left with, and the steps in which it can have more.
const FEWEST_REGISTERS: usize = 24;
const REGISTER_STEP: usize = 8;
/// The most that an instruction can name.
const MOST_REGISTERS: usize = 256;

impl HopperSettings {
    /// Registers that every thread has at first: its launch bounds let the assembler share out the whole file.
    pub(crate) const fn launch_registers(&self) -> usize {
        let share = REGISTER_FILE / ((self.consumers + 1) * THREADS);
        share / REGISTER_STEP * REGISTER_STEP
    }

    /// Registers of a thread of the loading warpgroup: what the others leave of those at first.
    pub(crate) const fn producer_registers(&self) -> usize {
        let all = (self.consumers + 1) * self.launch_registers();
        all.saturating_sub(self.consumers * self.registers)
    }

    /// Refuses settings that the kernel cannot be made with, and more shared memory than a cube can have.
    pub(crate) fn check(
        &self,
        problem: &Problem,
        shared_memory: usize,
        limits: &Limits,
    ) -> Result<()> {
        self.check_tiles(problem)?;
        self.check_registers(problem)?;
        limits.check(
            "bytes of shared memory",
            shared_memory,
            limits.shared_memory,
        )
    }

    fn check_tiles(&self, problem: &Problem) -> Result<()> {
        let Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            ..
        } = *self;
        if keys == 0 || !keys.is_multiple_of(16) || keys > 256 {
            let expected = "expected a multiple of 16 from 16 to 256";
            return Err(self.refuse(&format!("keys is {keys}, {expected}")));
        }
        for (ring, stages) in [("key", key_stages), ("value", value_stages)] {
            if !(2..=8).contains(&stages) {
                let problem = format!("{ring}_stages is {stages}, expected 2 to 8");
                return Err(self.refuse(&problem));
            }
        }
        if !(2..=3).contains(&consumers) || (consumers != 2 && problem.maps == 2) {
            let expected = "expected 2, or 3 for standard attention";
            return Err(self.refuse(&format!("consumers is {consumers}, {expected}")));
        }
        if !(1..=2).contains(&cluster) {
            return Err(self.refuse(&format!("cluster is {cluster}, expected 1 or 2 cubes")));
        }
        Ok(())
    }

    fn check_registers(&self, problem: &Problem) -> Result<()> {
        let Self {
            registers,
            consumers,
            ..
        } = *self;
        let first = self.launch_registers();
        let range = FEWEST_REGISTERS..=MOST_REGISTERS;
        if !registers.is_multiple_of(REGISTER_STEP) || !range.contains(&registers) {
            let expected = format!("expected a multiple of {REGISTER_STEP} in {range:?}");
            return Err(self.refuse(&format!("registers is {registers}, {expected}")));
        }
        if registers < first {
            let expected = format!("expected at least the {first} that a thread begins with");
            return Err(self.refuse(&format!("registers is {registers}, {expected}")));
        }
        let left = self.producer_registers();
        if left < FEWEST_REGISTERS {
            let of = format!("registers is {registers} in {consumers} warpgroups, which leaves");
            let expected = format!("{left} for the one that loads, expected {FEWEST_REGISTERS}");
            return Err(self.refuse(&format!("{of} {expected}")));
        }
        let needed = self.needed_registers(problem.value_dim);
        if needed > registers {
            let problem = format!("registers is {registers}, expected about {needed}");
            return Err(self.refuse(&problem));
        }
        Ok(())
    }

    /// Scores in f32 and sums in f32; a warpgroup shares each among 128 threads. With overlap the weights of the tile
    /// before, two to a register, live beside the scores.
    const fn needed_registers(&self, value_dim: usize) -> usize {
        let weights = if self.overlap { self.keys / 4 } else { 0 };
        self.keys / 2 + weights + value_dim / 2 + OTHER_REGISTERS
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Settings {
            settings: self.to_string(),
            problem: problem.to_string(),
        }
    }
}
