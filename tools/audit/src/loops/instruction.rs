//! One instruction of machine code, as NVIDIA's disassembler prints it.

/// An instruction, with what the assembler decided about its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Whether a predicate guards it.
    pub guarded: bool,
    /// Name with modifiers: `HGMMA.64x128x16.F32.BF16`.
    pub name: String,
    /// What comes after the name.
    pub operands: String,
    /// Label that it branches to.
    pub target: Option<String>,
    /// Cycles until the warp's next instruction.
    pub stall: u32,
    /// Scoreboards that it waits for, one a bit.
    pub waits: u32,
    /// Scoreboard that it sets until its result is there; 7 is none.
    pub write_board: u32,
    /// Scoreboard that it sets until it has read its operands; 7 is none.
    pub read_board: u32,
}

impl Instruction {
    /// From the text between address and semicolon.
    pub fn parse(text: &str) -> Self {
        let (guard, rest) = match text.split_once(char::is_whitespace) {
            Some((guard, rest)) if guard.starts_with('@') => (true, rest.trim()),
            _ => (false, text),
        };
        let (name, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let target = operands
            .split_once("`(")
            .and_then(|(_, label)| label.split_once(')'));
        Self {
            guarded: guard,
            name: name.to_string(),
            operands: operands.trim().to_string(),
            target: target.map(|(label, _)| label.to_string()),
            stall: 0,
            waits: 0,
            write_board: 7,
            read_board: 7,
        }
    }

    /// Takes the schedule from the upper half of the instruction's 16 bytes.
    pub fn schedule(&mut self, high: u64) {
        let bits = |from: u32, mask: u64| (high >> from & mask) as u32;
        self.stall = bits(41, 15);
        self.write_board = bits(46, 7);
        self.read_board = bits(49, 7);
        self.waits = bits(52, 63);
    }

    /// The name without modifiers.
    pub fn base(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// Whether a modifier is part of the name.
    pub fn has(&self, modifier: &str) -> bool {
        self.name.split('.').skip(1).any(|part| part == modifier)
    }

    /// Cycles that its warp cannot issue, this one included.
    pub fn cycles(&self) -> u32 {
        self.stall.max(1)
    }

    /// Whether it may branch.
    pub fn branches(&self) -> bool {
        self.base() == "BRA" && self.target.is_some()
    }

    /// Whether the next instruction cannot come after it.
    pub fn ends(&self) -> bool {
        let jumps = self.name == "BRA" && self.operands.starts_with('`');
        !self.guarded && (jumps || matches!(self.base(), "EXIT" | "RET" | "BRX" | "JMP"))
    }

    /// Whether it is a product of the tensor cores.
    pub fn multiplies(&self) -> bool {
        matches!(self.base(), "HGMMA" | "HMMA")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_instruction() {
        let mut branch = Instruction::parse("@!P0 BRA `(.L_x_5)");
        assert!(branch.guarded && branch.branches() && !branch.ends());
        assert_eq!(branch.target.as_deref(), Some(".L_x_5"));
        branch.schedule(0x001f_ea00_0380_0000);
        assert_eq!((branch.stall, branch.waits, branch.write_board), (5, 1, 7));
        assert!(Instruction::parse("BRA `(.L_x_5)").ends());
        assert!(!Instruction::parse("BRA.DIV UR4, `(.L_x_5)").ends());
        let product = Instruction::parse("HGMMA.64x48x16.F32.BF16 R200, gdesc[UR8], R200");
        assert_eq!((product.base(), product.has("BF16")), ("HGMMA", true));
    }
}
