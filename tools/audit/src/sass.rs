//! What the machine code of a Hopper kernel says about its schedule: whether the exponentials of a softmax stand where
//! they overlap with a product, after the wait for the scores and before the wait for the output.
//!
//! An instruction is 16 bytes; its opcode is in the lowest 12 bits. The numbers below are those that NVIDIA's
//! disassembler shows for compute capability 9.0.

use anyhow::{Context, Result};
use elf::{ElfBytes, endian::LittleEndian};

const OPCODE: u64 = 0xfff;
/// Special functions; which one is in the upper word.
const MUFU: u64 = 0x308;
const MUFU_FUNCTION: u64 = 0xf << 10;
const MUFU_EX2: u64 = 2 << 10;
/// Warpgroup synchronisation: arrivals, and waits with a number of products that may be pending.
const WARPGROUP: u64 = 0x9c5;
const WARPGROUP_WAIT: u64 = 1 << 47;
const PENDING_SHIFT: u32 = 8;
const PENDING: u64 = 0x7;

/// Exponentials in a kernel's code, and those among them during which a product runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overlap {
    /// All of them.
    pub exponentials: usize,
    /// Those between a wait that leaves a product pending and the next wait for all.
    pub hidden: usize,
}

impl Overlap {
    /// Reads machine code. `None` if it has no products of a warpgroup to wait for.
    ///
    /// # Errors
    /// If `cubin` is no ELF file.
    pub fn parse(cubin: &[u8]) -> Result<Option<Self>> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(cubin)?;
        let (headers, names) = file.section_headers_with_strtab()?;
        let (headers, names) = headers
            .zip(names)
            .context("machine code without sections")?;
        let mut found = None;
        for header in headers {
            if names.get(header.sh_name as usize)?.starts_with(".text.") {
                let (code, _) = file.section_data(&header)?;
                found = found.or(Self::of(code));
            }
        }
        Ok(found)
    }

    fn of(code: &[u8]) -> Option<Self> {
        let mut overlap = Overlap::default();
        let (mut running, mut waits) = (false, false);
        for instruction in code.chunks_exact(16) {
            match decode(instruction) {
                Some(Instruction::Exponential) => {
                    overlap.exponentials += 1;
                    overlap.hidden += usize::from(running);
                }
                Some(Instruction::Wait { pending }) => {
                    running = pending > 0;
                    waits = true;
                }
                None => {}
            }
        }
        waits.then_some(overlap)
    }

    /// Whether at least half of the exponentials are hidden: all but those of the first tile, whose code is its own.
    pub fn passes(&self) -> bool {
        2 * self.hidden >= self.exponentials
    }
}

enum Instruction {
    Exponential,
    Wait { pending: u64 },
}

fn decode(bytes: &[u8]) -> Option<Instruction> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (low, high) = (word(0)?, word(8)?);
    match low & OPCODE {
        MUFU if high & MUFU_FUNCTION == MUFU_EX2 => Some(Instruction::Exponential),
        WARPGROUP if low & WARPGROUP_WAIT != 0 => Some(Instruction::Wait {
            pending: high >> PENDING_SHIFT & PENDING,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // As NVIDIA's disassembler shows them.
    const EX2: [u64; 2] = [0x0000_0018_0018_7308, 0x000f_f000_0000_0800];
    const RCP: [u64; 2] = [0x0000_0000_0000_7308, 0x020f_6e00_0000_1000];
    const ARRIVE: [u64; 2] = [0x0000_0000_0000_79c5, 0x000f_e200_0000_0000];
    const WAIT_1: [u64; 2] = [0x0000_8000_0000_79c5, 0x000f_e400_0001_0100];
    const WAIT_0: [u64; 2] = [0x0000_8000_0000_79c5, 0x000f_e400_0001_0000];

    fn overlap(code: &[[u64; 2]]) -> Option<Overlap> {
        let bytes: Vec<u8> = code
            .iter()
            .flatten()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        Overlap::of(&bytes)
    }

    #[test]
    fn exponentials_between_the_waits_are_hidden() {
        let code = [ARRIVE, WAIT_0, EX2, RCP, ARRIVE, WAIT_1, RCP, EX2, WAIT_0];
        let found = overlap(&code).unwrap();
        assert_eq!((found.exponentials, found.hidden), (2, 1));
        assert!(found.passes());
    }

    #[test]
    fn exponentials_after_both_waits_are_not() {
        let found = overlap(&[ARRIVE, WAIT_1, WAIT_0, EX2]).unwrap();
        assert_eq!((found.exponentials, found.hidden), (1, 0));
        assert!(!found.passes());
    }

    #[test]
    fn waits_for_every_product_hide_nothing() {
        let found = overlap(&[EX2, ARRIVE, WAIT_0, RCP, EX2]).unwrap();
        assert_eq!((found.exponentials, found.hidden), (2, 0));
        assert!(!found.passes());
    }

    #[test]
    fn code_without_products_has_no_overlap() {
        assert_eq!(overlap(&[EX2, ARRIVE, RCP]), None);
    }
}
