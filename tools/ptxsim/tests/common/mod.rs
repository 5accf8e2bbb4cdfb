//! What several tests need. Each of them uses some of it.
#![allow(dead_code)]

use ptxsim::*;

/// Before any kernel.
pub const HEAD: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

/// Reproducible random numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// In [-1, 1).
    pub fn next(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Launches the kernel `k` of some PTX.
pub fn launch(
    dev: &mut Device,
    source: &str,
    launch: &Launch,
    args: &[Arg],
) -> Result<Stats, Error> {
    dev.launch(&Module::load(source)?, "k", launch, args)
}

/// One CTA.
pub fn block(threads: u32) -> Launch {
    Launch::new([1; 3], [threads, 1, 1])
}

/// Every combination of modes and schedules.
pub fn every_order(launch: &Launch) -> Vec<Launch> {
    let modes = [Mode::Eager, Mode::Lazy, Mode::Random(1), Mode::Random(2)];
    let schedules = [
        Schedule::RoundRobin,
        Schedule::LowFirst,
        Schedule::HighFirst,
        Schedule::Random(3),
    ];
    let order = |mode| {
        schedules.map(|schedule| Launch {
            mode,
            schedule,
            ..launch.clone()
        })
    };
    modes.into_iter().flat_map(order).collect()
}
