//! The GPU architectures that kernels are audited and simulated for, each with the limits of one card of it.

use core::fmt;

use cubecl_core::ir::DeviceProperties;
use cubecl_cpp::shared::CompilationOptions;
use diff_flash_attn::device::nvidia::Gpu;

/// A GPU architecture. Its `Display` is the name that NVRTC takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Arch {
    /// Ampere (A100): the oldest with asynchronous copies and bf16.
    #[value(name = "sm_80")]
    Sm80,
    /// Ampere (RTX 3090).
    #[value(name = "sm_86")]
    Sm86,
    /// Ada (RTX 4090).
    #[value(name = "sm_89")]
    Sm89,
    /// Hopper (H100, H200), with the instructions that only Hopper has.
    #[value(name = "sm_90a")]
    Sm90a,
    /// Blackwell (B200).
    #[value(name = "sm_100a")]
    Sm100a,
    /// Blackwell (RTX 5090).
    #[value(name = "sm_120a")]
    Sm120a,
}

/// What the cubes on one multiprocessor share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiprocessor {
    /// 32-bit registers.
    pub registers: u32,
    /// Bytes of shared memory, of which every cube takes 1 KiB beside its own.
    pub shared_memory: usize,
    /// Units.
    pub units: u32,
    /// Cubes.
    pub cubes: u32,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Arch; 6] = [
        Arch::Sm80,
        Arch::Sm86,
        Arch::Sm89,
        Arch::Sm90a,
        Arch::Sm100a,
        Arch::Sm120a,
    ];

    /// The most 32-bit registers that a unit can have, on any of them.
    pub const UNIT_REGISTERS: u32 = 255;

    /// The card whose limits stand for the architecture.
    pub fn card(self) -> &'static str {
        match self {
            Arch::Sm80 => "A100",
            Arch::Sm86 => "RTX 3090",
            Arch::Sm89 => "RTX 4090",
            Arch::Sm90a => "H100",
            Arch::Sm100a => "B200",
            Arch::Sm120a => "RTX 5090",
        }
    }

    /// Its compute capability as one number: 90 is 9.0.
    pub fn compute_capability(self) -> u32 {
        match self {
            Arch::Sm80 => 80,
            Arch::Sm86 => 86,
            Arch::Sm89 => 89,
            Arch::Sm90a => 90,
            Arch::Sm100a => 100,
            Arch::Sm120a => 120,
        }
    }

    /// The architecture of this compute capability.
    pub fn of_compute_capability(number: u32) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|arch| arch.compute_capability() == number)
    }

    /// Multiprocessors of the card, and its memory in GiB.
    fn size(self) -> (u32, u64) {
        match self {
            Arch::Sm80 => (108, 40),
            Arch::Sm86 => (82, 24),
            Arch::Sm89 => (128, 24),
            Arch::Sm90a => (132, 80),
            Arch::Sm100a => (148, 180),
            Arch::Sm120a => (170, 32),
        }
    }

    /// The card, as far as kernels depend on it.
    pub fn gpu(self) -> Gpu {
        let (multiprocessors, gibibytes) = self.size();
        Gpu {
            compute_capability: self.compute_capability(),
            multiprocessors,
            shared_memory: self.shared_memory(),
            memory: gibibytes << 30,
        }
    }

    /// What cubes share.
    pub fn multiprocessor(self) -> Multiprocessor {
        let (kibibytes, units, cubes) = match self {
            Arch::Sm80 => (164, 2048, 32),
            Arch::Sm86 => (100, 1536, 16),
            Arch::Sm89 | Arch::Sm120a => (100, 1536, 24),
            Arch::Sm90a | Arch::Sm100a => (228, 2048, 32),
        };
        Multiprocessor {
            registers: 64 << 10,
            shared_memory: kibibytes << 10,
            units,
            cubes,
        }
    }

    /// The most shared memory that one cube can have, in bytes: all but what every cube takes.
    pub fn shared_memory(self) -> usize {
        self.multiprocessor().shared_memory - (1 << 10)
    }

    /// Whether it has wgmma.
    pub fn has_wgmma(self) -> bool {
        self == Arch::Sm90a
    }

    /// The name that NVRTC takes where PTX is wanted and no machine code.
    pub fn virtual_name(self) -> String {
        self.gpu().virtual_architecture()
    }

    /// What the CUDA runtime reports of a device of this architecture.
    pub fn properties(self) -> DeviceProperties {
        self.gpu().properties(&format!("{self} (no device)"))
    }

    /// What CubeCL's C++ compiler may use on it.
    pub fn compilation_options(self) -> CompilationOptions {
        self.gpu().compilation_options()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.gpu().architecture())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn names_are_those_of_the_compiler() {
        for arch in Arch::ALL {
            let option = arch.to_possible_value().unwrap();
            assert_eq!(arch.to_string(), option.get_name());
            let number = arch.compute_capability();
            assert_eq!(Arch::of_compute_capability(number), Some(arch));
        }
    }

    #[test]
    fn a_cube_has_a_multiprocessor_for_itself() {
        let kibibytes = Arch::ALL.map(|arch| arch.shared_memory() >> 10);
        assert_eq!(kibibytes, [163, 99, 99, 227, 227, 99]);
    }
}
