//! Which settings a problem gets, and whether the kernel can be made with them.

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

impl HopperSettings {
    /// Registers of a computing thread. A multiprocessor has 65,536: what the loading warpgroup gives up, they get.
    pub(crate) const fn consumer_registers(&self) -> usize {
        match self.consumers {
            2 => 240,
            _ => 160,
        }
    }

    /// Registers of a thread of the loading warpgroup.
    pub(crate) const fn producer_registers(&self) -> usize {
        match self.consumers {
            2 => 24,
            _ => 32,
        }
    }

    /// Refuses settings that the kernel cannot be made with, and more shared memory than a cube can have.
    pub(crate) fn check(
        &self,
        problem: &Problem,
        shared_memory: usize,
        limits: &Limits,
    ) -> Result<()> {
        let Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            ..
        } = *self;
        if keys == 0 || !keys.is_multiple_of(16) || keys > 256 {
            return Err(self.refuse("keys is no multiple of 16 from 16 to 256"));
        }
        if key_stages < 2 || value_stages < 2 || key_stages.max(value_stages) > 8 {
            return Err(self.refuse("a ring has 2 to 8 stages"));
        }
        if !(2..=3).contains(&consumers) || (consumers != 2 && problem.maps == 2) {
            return Err(self.refuse("consumers must be 2, or 3 for standard attention"));
        }
        if !(1..=2).contains(&cluster) {
            return Err(self.refuse("a cluster has 1 or 2 cubes"));
        }
        // Scores in f32, weights packed two to a register, sums in f32; a warpgroup shares each among 128 threads.
        let needed = keys / 2 + keys / 4 + problem.value_dim / 2 + OTHER_REGISTERS;
        if needed > self.consumer_registers() {
            let (have, what) = (self.consumer_registers(), "registers of a thread");
            return Err(self.refuse(&format!("about {needed} {what} needed, it has {have}")));
        }
        limits.check(
            "bytes of shared memory",
            shared_memory,
            limits.shared_memory,
        )
    }

    fn refuse(&self, problem: &str) -> Error {
        Error::Settings {
            settings: self.to_string(),
            problem: problem.to_string(),
        }
    }
}
