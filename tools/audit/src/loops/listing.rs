//! The text of NVIDIA's disassembler: functions, their instructions and labels.

use std::collections::HashMap;

use super::instruction::Instruction;

/// A function's machine code.
#[derive(Debug, Default)]
pub(crate) struct Function {
    /// Instructions in the order of their addresses.
    pub code: Vec<Instruction>,
    labels: HashMap<String, usize>,
}

impl Function {
    /// Where an instruction may branch to.
    pub fn target(&self, at: usize) -> Option<usize> {
        let instruction = &self.code[at];
        if !instruction.branches() {
            return None;
        }
        let target = self.labels.get(instruction.target.as_ref()?)?;
        (*target < self.code.len()).then_some(*target)
    }
}

/// The functions that `nvdisasm -c -hex` prints.
pub(crate) fn parse(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix(".section\t") {
            in_code = section.starts_with(".text.");
            if in_code {
                functions.push(Function::default());
            }
        } else if let (true, Some(function)) = (in_code, functions.last_mut()) {
            take(function, line);
        }
    }
    functions.retain(|function| !function.code.is_empty());
    functions
}

/// One line of a code section: a label, an instruction, or the upper half of the one before.
fn take(function: &mut Function, line: &str) {
    if let Some(label) = line
        .strip_suffix(':')
        .filter(|label| label.starts_with(".L"))
    {
        function
            .labels
            .insert(label.to_string(), function.code.len());
        return;
    }
    let Some((comment, rest)) = line
        .strip_prefix("/*")
        .and_then(|line| line.split_once("*/"))
    else {
        return;
    };
    let comment = comment.trim();
    if let Some(word) = comment.strip_prefix("0x") {
        let high = u64::from_str_radix(word, 16).ok();
        if let (Some(high), Some(last)) = (high, function.code.last_mut()) {
            last.schedule(high);
        }
        return;
    }
    let is_address = u64::from_str_radix(comment, 16).is_ok();
    if let (true, Some((text, _))) = (is_address, rest.split_once(';')) {
        let text = text.trim().trim_start_matches('{').trim();
        function.code.push(Instruction::parse(text));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A function of these lines: labels, or instructions, whose stall may stand in front: `4| FADD …`.
    pub(crate) fn function(lines: &[&str]) -> Function {
        let mut function = Function::default();
        for line in lines {
            if let Some(label) = line.strip_suffix(':') {
                function
                    .labels
                    .insert(label.to_string(), function.code.len());
                continue;
            }
            let (stall, text) = line.split_once('|').unwrap_or(("1", line));
            let mut instruction = Instruction::parse(text.trim());
            instruction.stall = stall.trim().parse().unwrap();
            function.code.push(instruction);
        }
        function
    }

    #[test]
    fn text_of_the_disassembler() {
        let text = "\
	.section	.text.k,\"ax\",@progbits
	.sectionflags	@\"SHF_BARRIERS=1\"
.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;                 /* 0x00000a00ff017b82 */
                                                                          /* 0x000e220000000800 */
.L_x_1:
        /*0010*/              @!P0 BRA `(.L_x_1) ;                        /* 0x00000000005c0947 */
                                                                          /* 0x001fea0003800000 */
	.section	.nv.info,\"\",@progbits
.L_x_2:
";
        let functions = parse(text);
        let [function] = &functions[..] else {
            panic!("{functions:?}")
        };
        assert_eq!(function.code.len(), 2);
        assert_eq!(
            (function.code[0].stall, function.code[0].write_board),
            (1, 0)
        );
        assert_eq!(function.target(1), Some(1));
    }
}
