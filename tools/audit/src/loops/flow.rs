//! Loops of a function: natural loops, by dominators.

use std::collections::BTreeSet;

use super::listing::Function;

/// A loop: where it begins, and all of its instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loop {
    pub head: usize,
    pub body: BTreeSet<usize>,
}

/// Every loop of a function that holds an instruction `wanted`, and in it no other such loop.
pub(crate) fn innermost(function: &Function, wanted: impl Fn(usize) -> bool) -> Vec<Loop> {
    let mut loops = natural(function);
    loops.retain(|l| l.body.iter().any(|at| wanted(*at)));
    let inside = |l: &Loop, other: &Loop| l.head != other.head && other.body.is_subset(&l.body);
    let inner = |l: &&Loop| !loops.iter().any(|other| inside(l, other));
    loops.iter().filter(inner).cloned().collect()
}

/// What may come after each instruction.
fn successors(function: &Function) -> Vec<Vec<usize>> {
    let next =
        |at: usize| (at + 1 < function.code.len() && !function.code[at].ends()).then_some(at + 1);
    let all = |at: usize| next(at).into_iter().chain(function.target(at)).collect();
    (0..function.code.len()).map(all).collect()
}

fn natural(function: &Function) -> Vec<Loop> {
    let next = successors(function);
    let mut before = vec![Vec::new(); next.len()];
    for (at, next) in next.iter().enumerate() {
        next.iter().for_each(|next| before[*next].push(at));
    }
    let order = postorder(&next);
    let dominators = dominators(&order, &before);
    let mut loops: Vec<Loop> = Vec::new();
    for (at, next) in next.iter().enumerate() {
        let dominates = |head: &&usize| dominates(&dominators, **head, at);
        for head in next.iter().filter(dominates) {
            let body = body(*head, at, &before);
            match loops.iter_mut().find(|l| l.head == *head) {
                Some(known) => known.body.extend(body),
                None => loops.push(Loop { head: *head, body }),
            }
        }
    }
    loops
}

/// What reaches `tail` without passing `head`.
fn body(head: usize, tail: usize, before: &[Vec<usize>]) -> BTreeSet<usize> {
    let mut body = BTreeSet::from([head]);
    let mut open = vec![tail];
    while let Some(at) = open.pop() {
        if body.insert(at) {
            open.extend(&before[at]);
        }
    }
    body
}

/// Instructions that can be reached, each after all that it leads to, but for loops.
fn postorder(next: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; next.len()];
    let (mut order, mut stack) = (Vec::new(), Vec::new());
    if !next.is_empty() {
        seen[0] = true;
        stack.push((0, 0));
    }
    while let Some((at, i)) = stack.pop() {
        match next[at].get(i) {
            Some(&to) => {
                stack.push((at, i + 1));
                if !std::mem::replace(&mut seen[to], true) {
                    stack.push((to, 0));
                }
            }
            None => order.push(at),
        }
    }
    order
}

/// The nearest instruction that every way to one passes; itself for the first, `usize::MAX` where no way leads.
fn dominators(order: &[usize], before: &[Vec<usize>]) -> Vec<usize> {
    let mut rank = vec![0; before.len()];
    order.iter().enumerate().for_each(|(i, at)| rank[*at] = i);
    let mut dominators = vec![usize::MAX; before.len()];
    let Some(first) = order.last() else {
        return dominators;
    };
    dominators[*first] = *first;
    let mut changed = true;
    while changed {
        changed = false;
        for at in order.iter().rev().skip(1) {
            let known = before[*at]
                .iter()
                .copied()
                .filter(|p| dominators[*p] != usize::MAX);
            let common = known.reduce(|a, b| common(&dominators, &rank, a, b));
            if let Some(common) = common.filter(|common| dominators[*at] != *common) {
                dominators[*at] = common;
                changed = true;
            }
        }
    }
    dominators
}

fn common(dominators: &[usize], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        if rank[a] < rank[b] {
            a = dominators[a];
        } else {
            b = dominators[b];
        }
    }
    a
}

fn dominates(dominators: &[usize], head: usize, mut at: usize) -> bool {
    while at != head && dominators[at] != usize::MAX && dominators[at] != at {
        at = dominators[at];
    }
    at == head
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::function;
    use super::*;

    #[test]
    fn a_wait_that_fails_far_away_makes_no_loop_of_its_own() {
        let function = function(&[
            "MOV R0, 0x1",
            ".L_head:",
            "HGMMA.64x128x16.F32 R0, gdesc[UR4], R0",
            "@!P0 BRA `(.L_far)",
            ".L_back:",
            "FADD R1, R1, R2",
            "@P1 BRA `(.L_head)",
            "EXIT",
            ".L_far:",
            "SYNCS.PHASECHK P0",
            "@!P0 BRA `(.L_far)",
            "BRA `(.L_back)",
        ]);
        let loops = innermost(&function, |at| function.code[at].multiplies());
        assert_eq!(loops.len(), 1);
        assert_eq!(loops[0].head, 1);
        assert_eq!(loops[0].body, BTreeSet::from([1, 2, 3, 4, 6, 7, 8]));
    }

    #[test]
    fn the_inner_of_two_loops() {
        let function = function(&[
            ".L_outer:",
            "MOV R0, 0x1",
            ".L_inner:",
            "HMMA.16816.F32 R0, R4, R8, R0",
            "@P0 BRA `(.L_inner)",
            "@P1 BRA `(.L_outer)",
            "EXIT",
        ]);
        let loops = innermost(&function, |at| function.code[at].multiplies());
        assert_eq!(loops.iter().map(|l| l.head).collect::<Vec<_>>(), [1]);
    }
}
