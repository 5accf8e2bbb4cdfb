//! Bytes that TMA copies to shared memory in a round of the loading warp's loop, read off the barriers that expect them.

use std::collections::BTreeMap;

use super::flow::innermost;
use super::instruction::Instruction;
use super::listing::Function;

/// Bytes of a round: each barrier once, by its offset, however often the loop is unrolled. None if no loop loads; or if some number
/// is none that the code names.
pub(crate) fn bytes(function: &Function) -> Option<f64> {
    let expects = |at: usize| expects(&function.code[at]);
    let loops = innermost(function, expects);
    let mut all = BTreeMap::new();
    for l in &loops {
        for at in l.body.iter().copied().filter(|at| expects(*at)) {
            let (barrier, register) = operands(&function.code[at])?;
            let bytes = constant(&function.code[..at], register)?;
            all.insert(barrier.to_string(), bytes);
        }
    }
    (!all.is_empty()).then(|| all.values().sum())
}

/// Whether an instruction arrives at a barrier with a number of bytes.
fn expects(instruction: &Instruction) -> bool {
    let arrives = instruction.name == "SYNCS.ARRIVE.TRANS64";
    arrives && operands(instruction).is_some_and(|(_, register)| register != "RZ")
}

/// The barrier's offset from its register, and the register of the bytes: `RZ, [UR31+0x10], R4`.
fn operands(instruction: &Instruction) -> Option<(&str, &str)> {
    let (barrier, register) = instruction.operands.split_once('[')?.1.split_once("],")?;
    let offset = barrier.split_once('+').map_or("", |(_, offset)| offset);
    Some((offset, register.trim()))
}

/// What was last written to a register before, if it is a constant.
fn constant(before: &[Instruction], register: &str) -> Option<f64> {
    let writes = |i: &&Instruction| {
        i.operands
            .split(',')
            .next()
            .is_some_and(|d| d.trim() == register)
    };
    let last = before.iter().rev().find(writes)?;
    let moves = last.base() == "MOV" || last.base() == "UMOV" || last.has("MOV");
    let value = last
        .operands
        .rsplit(',')
        .next()?
        .trim()
        .strip_prefix("0x")?;
    let value = u32::from_str_radix(value, 16).ok()?;
    moves.then(|| f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::function;
    use super::*;

    #[test]
    fn an_unrolled_loop_counts_once() {
        let function = function(&[
            "IMAD.MOV.U32 R4, RZ, RZ, 0x5000",
            "MOV R2, 0x8000",
            "SYNCS.ARRIVE.TRANS64 RZ, [UR25], R2",
            ".L_head:",
            "SYNCS.ARRIVE.TRANS64 RZ, [UR31+0x10], R4",
            ".L_all:",
            "UTMALDG.5D [UR16], [UR32]",
            "@P0 BRA.U.ANY `(.L_all)",
            "SYNCS.ARRIVE.TRANS64 RZ, [UR17+0x50], R2",
            "SYNCS.ARRIVE.TRANS64 RZ, [UR30+0x10], R4",
            "SYNCS.ARRIVE.TRANS64.A1T0 RZ, [UR30+0x30], RZ",
            "@P1 BRA `(.L_head)",
            "EXIT",
        ]);
        assert_eq!(bytes(&function), Some(f64::from(0x5000 + 0x8000)));
    }

    #[test]
    fn a_number_that_is_computed_is_unknown() {
        let function = function(&[
            ".L_head:",
            "IADD3 R4, R4, 0x10, RZ",
            "SYNCS.ARRIVE.TRANS64 RZ, [UR31], R4",
            "@P1 BRA `(.L_head)",
            "EXIT",
        ]);
        assert_eq!(bytes(&function), None);
    }
}
