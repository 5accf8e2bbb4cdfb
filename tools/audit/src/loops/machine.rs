//! A quarter of a multiprocessor, as the model sees it: rates by architecture. Assumed, from what NVIDIA publishes of its GPUs.

/// Rates of one of the four schedulers of a multiprocessor, and what a multiprocessor has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Machine {
    /// Cycles in which a warp's float additions and multiplications leave no room for another's.
    pub fma: u32,
    /// The same for integers, logic, comparison, moves, conversion.
    pub alu: u32,
    /// The same for exponentials and the like.
    pub special: u32,
    /// Multiply-adds of 16-bit floats a cycle in `mma.sync` with sums of 32 bits.
    pub multiply_adds: u32,
    /// Whether sums of 16 bits are twice as fast.
    pub half_sums_faster: bool,
    /// Shared memory of all cubes of a multiprocessor together, in bytes.
    pub shared_memory: usize,
    /// Threads of a multiprocessor.
    pub threads: usize,
}

/// Multiply-adds of products of warpgroups that a multiprocessor does in a cycle.
pub(crate) const WARPGROUP_MULTIPLY_ADDS: f64 = 2048.0;
/// Registers of a multiprocessor.
pub(crate) const REGISTERS: usize = 65536;
/// Bytes of shared memory a cycle, of all four schedulers together.
pub(crate) const SHARED_BYTES: f64 = 128.0;
/// Shared memory that every cube takes beside its own, in bytes.
pub(crate) const RESERVED_SHARED: usize = 1024;

impl Machine {
    /// That of an architecture by its name, `sm_90a` for example.
    pub fn of(arch: &str) -> Option<Self> {
        let consumer = Self {
            fma: 1,
            alu: 2,
            special: 8,
            multiply_adds: 64,
            half_sums_faster: true,
            shared_memory: 100 << 10,
            threads: 1536,
        };
        Some(match arch {
            "sm_80" => Self {
                fma: 2,
                multiply_adds: 256,
                half_sums_faster: false,
                shared_memory: 164 << 10,
                threads: 2048,
                ..consumer
            },
            "sm_86" | "sm_89" | "sm_120" | "sm_120a" => consumer,
            "sm_90" | "sm_90a" => Self {
                multiply_adds: 256,
                half_sums_faster: false,
                shared_memory: 228 << 10,
                threads: 2048,
                ..consumer
            },
            _ => return None,
        })
    }

    /// Cubes that run on a multiprocessor at once.
    pub fn cubes(&self, threads: usize, registers: usize, shared_memory: usize) -> usize {
        let by_shared = self.shared_memory / (shared_memory + RESERVED_SHARED);
        // Registers are given to warps, in units of eight a thread.
        let by_registers =
            REGISTERS / (registers.next_multiple_of(8) * threads.next_multiple_of(32)).max(1);
        by_shared
            .min(by_registers)
            .min(self.threads / threads.max(1))
            .max(1)
    }
}

/// Cycles of a multiprocessor's tensor cores for some multiply-adds of 16-bit floats: in products of warpgroups, or in those of warps,
/// with sums of 16 bits or of 32. None if the architecture has no model.
pub fn tensor_cycles(
    arch: &str,
    multiply_adds: u64,
    warpgroups: bool,
    half_sums: bool,
) -> Option<f64> {
    let machine = Machine::of(arch)?;
    let faster = half_sums && machine.half_sums_faster;
    let of_warps = 4.0 * f64::from(machine.multiply_adds) * if faster { 2.0 } else { 1.0 };
    let rate = if warpgroups {
        WARPGROUP_MULTIPLY_ADDS
    } else {
        of_warps
    };
    Some(multiply_adds as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_of_a_multiprocessor() {
        let machine = Machine::of("sm_86").unwrap();
        assert_eq!(machine.cubes(128, 255, 48 << 10), 2);
        assert_eq!(machine.cubes(128, 166, 48 << 10), 2);
        assert_eq!(machine.cubes(256, 255, 4 << 10), 1);
        let hopper = Machine::of("sm_90a").unwrap();
        assert_eq!(hopper.cubes(384, 168, 197232), 1);
    }
}
