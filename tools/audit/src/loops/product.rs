//! Products of the tensor cores, and the shared memory that instructions take.

use super::instruction::Instruction;
use super::machine::{Machine, WARPGROUP_MULTIPLY_ADDS};

/// A product: how long it keeps the tensor core of each scheduler busy, and what it reads of shared memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Product {
    /// In cycles.
    pub cycles: f64,
    /// By the four schedulers together; none if operands come from registers.
    pub bytes: f64,
}

impl Product {
    /// That of an instruction, if it is one whose shape is known.
    pub fn of(instruction: &Instruction, machine: &Machine) -> Option<Self> {
        match instruction.base() {
            "HGMMA" => warpgroup(instruction),
            "HMMA" => warp(instruction, machine),
            _ => None,
        }
    }
}

/// B in shared memory, A in registers or not: 16-bit elements.
fn warpgroup(instruction: &Instruction) -> Option<Product> {
    let shape = instruction.name.split('.').nth(1)?;
    let sizes: Vec<f64> = shape
        .split('x')
        .map_while(|size| size.parse().ok())
        .collect();
    let [m, n, k] = sizes[..] else {
        return None;
    };
    let mut operands = instruction.operands.split(',').map(str::trim);
    let from_registers = operands.nth(1).is_some_and(|left| left.starts_with('R'));
    let left = if from_registers { 0.0 } else { 2.0 * m * k };
    Some(Product {
        cycles: m * n * k / WARPGROUP_MULTIPLY_ADDS,
        bytes: left + 2.0 * n * k,
    })
}

fn warp(instruction: &Instruction, machine: &Machine) -> Option<Product> {
    let depth = match instruction.name.split('.').nth(1)? {
        "16816" => 16.0,
        "1688" => 8.0,
        "1684" => 4.0,
        _ => return None,
    };
    let tf32 = if instruction.has("TF32") { 2.0 } else { 1.0 };
    let half = !instruction.has("F32") && machine.half_sums_faster;
    let rate = f64::from(machine.multiply_adds) * if half { 2.0 } else { 1.0 };
    Some(Product {
        cycles: 16.0 * 8.0 * depth * tf32 / rate,
        bytes: 0.0,
    })
}

/// Bytes that an ordinary instruction of a warp reads and writes of shared memory: every lane its own, but for plain loads. Those read
/// statistics of rows or columns in the main loop, which lanes share: 128 bytes of them up to 8 bytes a lane.
pub(crate) fn shared_bytes(instruction: &Instruction) -> (f64, f64) {
    let lanes = 32.0;
    match instruction.base() {
        "LDS" => (lanes * width(instruction).max(8.0) / 2.0, 0.0),
        "STS" | "ATOMS" => (0.0, lanes * width(instruction)),
        "LDGSTS" => (0.0, lanes * width(instruction)),
        "LDSM" => (128.0 * matrices(instruction), 0.0),
        "STSM" => (0.0, 128.0 * matrices(instruction)),
        _ => (0.0, 0.0),
    }
}

fn width(instruction: &Instruction) -> f64 {
    let widths = [("128", 16.0), ("64", 8.0), ("U16", 2.0), ("U8", 1.0)];
    widths
        .iter()
        .find(|(name, _)| instruction.has(name))
        .map_or(4.0, |(_, bytes)| *bytes)
}

fn matrices(instruction: &Instruction) -> f64 {
    ["4", "2"]
        .iter()
        .find(|n| instruction.has(n))
        .map_or(1.0, |n| n.parse().unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(text: &str, arch: &str) -> (f64, f64) {
        let machine = Machine::of(arch).unwrap();
        let product = Product::of(&Instruction::parse(text), &machine).unwrap();
        (product.cycles, product.bytes)
    }

    #[test]
    fn products() {
        let shared = "HGMMA.64x80x16.F32.BF16 R24, gdesc[UR4], R24";
        assert_eq!(product(shared, "sm_90a"), (40.0, 2048.0 + 2560.0));
        let registers = "HGMMA.64x256x16.F32.BF16 R24, R152, gdesc[UR4], R24";
        assert_eq!(product(registers, "sm_90a"), (128.0, 8192.0));
        assert_eq!(
            product("HMMA.16816.F32.BF16 R4, R8, R12, R4", "sm_80"),
            (8.0, 0.0)
        );
        assert_eq!(
            product("HMMA.16816.F32.BF16 R4, R8, R12, R4", "sm_89"),
            (32.0, 0.0)
        );
        assert_eq!(
            product("HMMA.16816.F16 R4, R8, R12, R4", "sm_89"),
            (16.0, 0.0)
        );
        assert_eq!(
            product("HMMA.1688.F32.TF32 R4, R8, R12, R4", "sm_80"),
            (8.0, 0.0)
        );
    }

    #[test]
    fn shared_memory() {
        let bytes = |text| shared_bytes(&Instruction::parse(text));
        assert_eq!(bytes("LDSM.16.M88.4 R4, [R2]"), (512.0, 0.0));
        assert_eq!(bytes("LDGSTS.E.BYPASS.128 [R2], [R4.64]"), (0.0, 512.0));
        assert_eq!(bytes("LDS.64 R4, [R2]"), (128.0, 0.0));
        assert_eq!(bytes("LDS.128 R4, [R2]"), (256.0, 0.0));
        assert_eq!(bytes("STS R4, [R2]"), (0.0, 128.0));
        assert_eq!(bytes("LDC R4, c[0x0][0x28]"), (0.0, 0.0));
    }
}
