//! The way through a loop that a tile takes without a mask.

use super::flow::Loop;
use super::instruction::Instruction;
use super::listing::Function;

/// Selections that make a block one that masks scores.
const MASK: usize = 16;

/// Multiplications that make a block one that scales the sums, since a maximum moved.
const RESCALE: usize = 16;

/// Instructions from the loop's head back to it. A branch is taken if the other way leaves the loop, if it closes the loop, or if
/// it skips a block that masks scores or scales sums; all else is executed, and waits succeed at once. None if that never comes
/// back.
pub(crate) fn steady(function: &Function, l: &Loop) -> Option<Vec<usize>> {
    let mut path = Vec::new();
    let mut at = l.head;
    loop {
        path.push(at);
        let next = next(function, l, at)?;
        if next == l.head {
            return Some(path);
        }
        if path.len() > l.body.len() {
            return None;
        }
        at = next;
    }
}

fn next(function: &Function, l: &Loop, at: usize) -> Option<usize> {
    let instruction = &function.code[at];
    let through = (!instruction.ends())
        .then_some(at + 1)
        .filter(|at| l.body.contains(at));
    let Some(target) = function.target(at).filter(|at| l.body.contains(at)) else {
        return through;
    };
    let Some(through) = through else {
        return Some(target);
    };
    let skips = target > at && rare(&function.code[at + 1..target]);
    Some(if target == l.head || skips {
        target
    } else {
        through
    })
}

/// Whether a block masks scores or scales sums: it selects for many, or does little but multiply, and multiplies no matrices.
fn rare(block: &[Instruction]) -> bool {
    let count = |names: &[&str]| block.iter().filter(|i| names.contains(&i.base())).count();
    let multiplies = block.iter().any(|i| i.multiplies());
    let masks = count(&["FSEL", "SEL"]) >= MASK && count(&["ISETP", "R2P", "LOP3"]) >= 1;
    let scalings = count(&["FMUL"]);
    let scales = scalings >= RESCALE && 2 * scalings > block.len();
    !multiplies && (masks || scales)
}

#[cfg(test)]
mod tests {
    use super::super::flow::innermost;
    use super::super::listing::tests::function;
    use super::*;

    fn names(lines: &[&str]) -> Vec<String> {
        let function = function(lines);
        let loops = innermost(&function, |at| function.code[at].multiplies());
        let path = steady(&function, &loops[0]).unwrap();
        path.into_iter()
            .map(|at| function.code[at].base().to_string())
            .collect()
    }

    #[test]
    fn masks_are_skipped_and_the_rest_is_not() {
        let mut lines = vec![
            ".L_head:",
            "HMMA.16816.F32 R0, R4, R8, R0",
            "@P0 BRA `(.L_seen)",
            "ISETP P1",
        ];
        lines.extend(["FSEL R0, R0, R1, P1"; MASK]);
        lines.extend([
            ".L_seen:",
            "@P2 BRA `(.L_same)",
            "FMUL R0, R0, R1",
            ".L_same:",
            "@P3 BRA `(.L_head)",
            "EXIT",
        ]);
        assert_eq!(names(&lines), ["HMMA", "BRA", "BRA", "FMUL", "BRA"]);
    }

    #[test]
    fn sums_are_scaled_rarely() {
        let mut lines = vec![
            ".L_head:",
            "HMMA.16816.F32 R0, R4, R8, R0",
            "@!P0 BRA `(.L_same)",
        ];
        lines.extend(["FMUL R0, R0, R1"; RESCALE]);
        lines.extend([".L_same:", "@P3 BRA `(.L_head)", "EXIT"]);
        assert_eq!(names(&lines), ["HMMA", "BRA", "BRA"]);
    }

    #[test]
    fn a_loop_that_closes_with_a_jump() {
        let lines = [
            ".L_head:",
            "@P0 BRA `(.L_end)",
            "HMMA.16816.F32 R0, R4, R8, R0",
            "BRA `(.L_head)",
            ".L_end:",
            "EXIT",
        ];
        assert_eq!(names(&lines), ["BRA", "HMMA", "BRA"]);
    }
}
