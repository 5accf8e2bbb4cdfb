//! What a kernel takes from a multiprocessor, read from the assembler's log.

use anyhow::{Context, Result};

/// Needs of one kernel. The byte counts are those of one thread, except for shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// 32-bit registers of a thread.
    pub registers: usize,
    /// Shared memory of a cube that the code declares itself, in bytes; what a launch reserves comes on top.
    pub static_shared: usize,
    /// Local memory of a thread, in bytes: spills, and arrays that are indexed at run time.
    pub stack: usize,
    /// Bytes written to local memory because registers ran out, counted in the code, not in time.
    pub spill_stores: usize,
    /// Bytes read back.
    pub spill_loads: usize,
    /// Whether the assembler says that it lost speed: products of the tensor cores wait for each other, or a warpgroup
    /// keeps registers that it was to give up.
    pub loss: bool,
}

impl Resources {
    /// Reads the log of NVRTC with the option `--ptxas-options=-v`. Of several functions the greatest counts.
    ///
    /// # Errors
    /// If the log does not say how many registers, stack and spills there are.
    pub fn parse(log: &str) -> Result<Self> {
        let needed =
            |unit: &str| greatest(log, unit).with_context(|| format!("no '{unit}' in {log:?}"));
        Ok(Self {
            registers: needed("registers")?,
            static_shared: greatest(log, "bytes smem").unwrap_or(0),
            stack: needed("bytes stack frame")?,
            spill_stores: needed("bytes spill stores")?,
            spill_loads: needed("bytes spill loads")?,
            loss: log.contains("Potential Performance Loss"),
        })
    }

    /// Whether registers ran out.
    pub fn spills(&self) -> bool {
        self.spill_stores + self.spill_loads > 0
    }
}

/// The greatest number that stands before `unit`.
fn greatest(log: &str, unit: &str) -> Option<usize> {
    let number_before = |at: usize| log[..at].split_whitespace().next_back()?.parse().ok();
    log.match_indices(unit)
        .filter_map(|(at, _)| number_before(at))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'forward' for 'sm_80'
ptxas info    : Function properties for forward
    1264 bytes stack frame, 1128 bytes spill stores, 1256 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 1264 bytes cumulative stack size, 512 bytes smem, 376 bytes cmem[0]
ptxas info    : Function properties for __internal_division
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
";

    #[test]
    fn greatest_need_of_all_functions() {
        let resources = Resources::parse(LOG).unwrap();
        let expected = Resources {
            registers: 255,
            static_shared: 512,
            stack: 1264,
            spill_stores: 1128,
            spill_loads: 1256,
            loss: false,
        };
        assert_eq!(resources, expected);
        assert!(resources.spills());
    }

    #[test]
    fn warning_of_serialized_products() {
        const WARNING: &str = "\
ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient \
register resources for the function 'forward'";
        let resources = Resources::parse(&format!("{LOG}{WARNING}\n")).unwrap();
        assert!(resources.loss);
    }

    #[test]
    fn silent_assembler_is_an_error() {
        assert!(Resources::parse("ptxas info    : 0 bytes gmem").is_err());
    }
}
