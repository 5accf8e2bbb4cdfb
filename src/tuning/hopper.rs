//! Settings of the forward kernel for compute capability 9.0, and the table that chooses them.

use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::tuning::Limits;
use MaskKind::{Causal, Full, Window};

/// Tile sizes of one launch of the forward kernel for compute capability 9.0.
///
/// A cube has one warpgroup that loads tiles and `consumers` that compute on 64 rows each. With two maps the two
/// consumers compute a map each of the same 64 queries, with one map each has 64 queries of its own. The
/// [`Display`](core::fmt::Display) form, `n80k2v2w2c2`, is its name wherever settings are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl core::fmt::Display for HopperSettings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            keys,
            key_stages,
            value_stages,
            consumers,
            cluster,
        } = self;
        write!(
            f,
            "n{keys}k{key_stages}v{value_stages}w{consumers}c{cluster}"
        )
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

/// Kinds of masks that want different settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskKind {
    /// Every query sees every key.
    Full,
    /// Bounded after the diagonal only.
    Causal,
    /// Bounded before the diagonal.
    Window,
}

impl MaskKind {
    /// The kind of a problem's mask.
    pub(crate) fn of(problem: &Problem) -> Self {
        let (sides, ..) = problem.band();
        match (sides.left, sides.right) {
            (true, _) => Window,
            (false, true) => Causal,
            (false, false) => Full,
        }
    }
}

/// One default: settings for exactly these dimensions, for f16 and bf16 alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopperShipped {
    /// Attention maps.
    pub maps: usize,
    /// Head dimension.
    pub head_dim: usize,
    /// Value dimension.
    pub value_dim: usize,
    /// Kind of mask.
    pub mask: MaskKind,
    /// The settings.
    pub settings: HopperSettings,
}

const fn row(
    maps: usize,
    [head_dim, value_dim]: [usize; 2],
    mask: MaskKind,
    [keys, key_stages, value_stages, consumers, cluster]: [usize; 5],
) -> HopperShipped {
    let settings = HopperSettings {
        keys,
        key_stages,
        value_stages,
        consumers,
        cluster,
    };
    HopperShipped {
        maps,
        head_dim,
        value_dim,
        mask,
        settings,
    }
}

/// All default settings. The widest tiles whose registers and shared memory suffice; they await a measurement.
#[rustfmt::skip]
const TABLE: &[HopperShipped] = &[
    //  maps d    dv     mask    keys  k  v  w  c
    row(2, [128, 256], Full,   [ 80, 2, 2, 2, 2]),
    row(2, [128, 256], Causal, [ 80, 2, 2, 2, 2]),
    row(2, [128, 256], Window, [ 80, 2, 2, 2, 2]),
    row(2, [ 64, 128], Full,   [128, 2, 2, 2, 2]),
    row(2, [ 64, 128], Causal, [128, 2, 2, 2, 2]),
    row(2, [ 64, 128], Window, [128, 2, 2, 2, 2]),
    row(2, [128, 128], Full,   [112, 2, 2, 2, 2]),
    row(2, [128, 128], Causal, [112, 2, 2, 2, 2]),
    row(2, [128, 128], Window, [112, 2, 2, 2, 2]),
    row(2, [ 64,  64], Full,   [128, 2, 2, 2, 2]),
    row(2, [ 64,  64], Causal, [128, 2, 2, 2, 2]),
    row(2, [ 64,  64], Window, [128, 2, 2, 2, 2]),
    row(2, [ 96, 192], Full,   [ 96, 2, 2, 2, 2]),
    row(2, [ 96, 192], Causal, [ 96, 2, 2, 2, 2]),
    row(2, [ 96, 192], Window, [ 96, 2, 2, 2, 2]),
    row(1, [128, 256], Full,   [ 80, 2, 2, 2, 2]),
    row(1, [128, 256], Causal, [ 80, 2, 2, 2, 2]),
    row(1, [128, 256], Window, [ 80, 2, 2, 2, 2]),
    row(1, [ 64, 128], Full,   [128, 2, 2, 2, 2]),
    row(1, [ 64, 128], Causal, [128, 2, 2, 2, 2]),
    row(1, [ 64, 128], Window, [128, 2, 2, 2, 2]),
    row(1, [128, 128], Full,   [128, 2, 2, 2, 2]),
    row(1, [128, 128], Causal, [128, 2, 2, 2, 2]),
    row(1, [128, 128], Window, [128, 2, 2, 2, 2]),
    row(1, [ 64,  64], Full,   [128, 2, 2, 2, 2]),
    row(1, [ 64,  64], Causal, [128, 2, 2, 2, 2]),
    row(1, [ 64,  64], Window, [128, 2, 2, 2, 2]),
    row(1, [ 96, 192], Full,   [ 96, 2, 2, 2, 2]),
    row(1, [ 96, 192], Causal, [ 96, 2, 2, 2, 2]),
    row(1, [ 96, 192], Window, [ 96, 2, 2, 2, 2]),
];

/// Settings for a problem, if the table has its dimensions.
pub(crate) fn hopper_settings(problem: &Problem) -> Option<HopperSettings> {
    let mask = MaskKind::of(problem);
    hopper_shipped()
        .find(|row| {
            row.maps == problem.maps
                && row.head_dim == problem.head_dim
                && row.value_dim == problem.value_dim
                && row.mask == mask
        })
        .map(|row| row.settings)
}

/// All default settings of the forward kernel for compute capability 9.0.
pub fn hopper_shipped() -> impl Iterator<Item = HopperShipped> {
    TABLE.iter().copied()
}
