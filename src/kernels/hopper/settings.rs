//! Settings of the kernels for compute capability 9.0, and whether a kernel can be made with them.

use core::fmt;
use core::str::FromStr;

use super::accumulator::THREADS;
use super::backward::dims::GradientSettings;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernels::names;
use crate::problem::Problem;

/// Tile sizes of one launch of a kernel for compute capability 9.0.
///
/// The kernels of the gradients have 128 rows that stay, and `keys` is the rows of a tile that streams by: queries for the
/// gradients of key and value. They take both numbers of stages equal, two computing warpgroups, one cube, overlap, and no
/// turns. What follows is the forward kernel.
///
/// A cube has one warpgroup that loads tiles and `consumers` that compute on 64 rows each. With two maps the two
/// consumers compute a map each of the same 64 queries, with one map each has 64 queries of its own. The
/// [`Display`](fmt::Display) form, `n128k2v2w2c2r240ot`, is its name wherever settings are reported, and can be
/// parsed; `o` and `t` stand for overlap and turns.
///
/// ```
/// use diff_flash_attn::tuning::HopperSettings;
/// let settings: HopperSettings = "n128k2v2w2c2r240ot".parse()?;
/// assert_eq!((settings.keys, settings.overlap, settings.turns), (128, true, true));
/// # Ok::<(), diff_flash_attn::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HopperSettings {
    /// Keys of a tile, a multiple of 16 up to 256.
    pub keys: usize,
    /// Tiles of keys in flight, at least 2.
    pub key_stages: usize,
    /// Tiles of values in flight, at least 2.
    pub value_stages: usize,
    /// Warpgroups that compute: 2, or for standard attention 2 or 3.
    pub consumers: usize,
    /// Cubes that share what they load: 1 or 2, neighbouring queries of one head.
    pub cluster: usize,
    /// Registers of a computing thread, a multiple of 8 up to 256. All threads begin with an equal share of the
    /// 65,536 of a multiprocessor, 168 for two computing warpgroups and 128 for three; what the computing ones get more,
    /// the loading one gives up, and it needs 24.
    pub registers: usize,
    /// The softmax of a tile is computed while the tensor cores multiply the weights of the tile before with its values.
    /// Without it they wait for each other, and fewer registers are needed.
    pub overlap: bool,
    /// The computing warpgroups take turns at the tensor cores, so that one computes exponentials while another's
    /// products run.
    pub turns: bool,
}

impl fmt::Display for HopperSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            registers,
            overlap,
            turns,
        } = self;
        let overlap = if *overlap { "o" } else { "" };
        let turns = if *turns { "t" } else { "" };
        write!(
            f,
            "n{keys}k{key_stages}v{value_stages}w{consumers}c{cluster}r{registers}{overlap}{turns}"
        )
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

impl FromStr for HopperSettings {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let letters = name.trim_end_matches(|c: char| !c.is_ascii_digit());
        let (overlap, turns) = match &name[letters.len()..] {
            "" => (false, false),
            "o" => (true, false),
            "t" => (false, true),
            "ot" => (true, true),
            _ => return Err(names::unknown(name, "like n128k2v2w2c2r240ot")),
        };
        match names::numbers(letters, ["n", "k", "v", "w", "c", "r"]) {
            Some(sizes) => Ok(Self::new(sizes, overlap, turns)),
            None => Err(names::unknown(name, "like n128k2v2w2c2r240ot")),
        }
    }
}

impl HopperSettings {
    /// Settings of those sizes, in the order of the fields.
    pub const fn new(
        [
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            registers,
        ]: [usize; 6],
        overlap: bool,
        turns: bool,
    ) -> Self {
        Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
            registers,
            overlap,
            turns,
        }
    }

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
        device: &Device,
    ) -> Result<()> {
        self.check_tiles(problem)?;
        self.check_registers(problem)?;
        device.check(
            "bytes of shared memory",
            shared_memory,
            device.shared_memory,
        )
    }

    /// As the kernels of the gradients take them: `keys` is then the rows of a tile that streams by.
    pub(crate) fn of_gradient(&self) -> Result<GradientSettings> {
        let Self {
            keys,
            key_stages,
            value_stages,
            ..
        } = *self;
        if keys == 0 || !keys.is_multiple_of(16) || keys > 128 {
            let expected = "expected a multiple of 16 from 16 to 128";
            return Err(self.refuse(&format!("keys is {keys}, {expected}")));
        }
        if !(2..=8).contains(&key_stages) || key_stages != value_stages {
            let expected = "expected the same for both, 2 to 8";
            let problem = format!("stages are {key_stages} and {value_stages}, {expected}");
            return Err(self.refuse(&problem));
        }
        if self.consumers != 2 || self.cluster != 1 || !self.overlap || self.turns {
            let expected = "2 computing warpgroups in cubes of their own, overlap and no turns";
            return Err(self.refuse(&format!("gradients are made by {expected}")));
        }
        let (first, most) = (self.launch_registers(), MOST_REGISTERS - 2 * REGISTER_STEP);
        let range = first..=most;
        if !range.contains(&self.registers) || !self.registers.is_multiple_of(REGISTER_STEP) {
            let expected = format!("expected a multiple of {REGISTER_STEP} in {range:?}");
            let problem = format!("registers is {}, {expected}", self.registers);
            return Err(self.refuse(&problem));
        }
        Ok(GradientSettings {
            tile: keys,
            stages: key_stages,
            registers: self.registers,
        })
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
