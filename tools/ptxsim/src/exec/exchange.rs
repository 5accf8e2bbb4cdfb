//! Instructions that exchange data between the lanes of a warp.

use super::{At, Cluster, R};
use crate::alu::integer;
use crate::alu::registers::{Registers, lanes};
use crate::ir::*;
use crate::launch::Check;
use crate::ty::Ty;

impl Cluster<'_> {
    /// `mask`: the lanes taking part, all of them here.
    pub(super) fn exchange(&mut self, at: At, mask: u32, op: &Exchange) -> R<()> {
        let r = &mut self.warps[at.wi].registers;
        match op {
            Exchange::Sync => {}
            Exchange::Shuffle {
                mode,
                d,
                p,
                a,
                b,
                c,
            } => {
                let from = |l| source(*mode, l, r.get(*b, l), r.get(*c, l));
                let from = std::array::from_fn(from);
                if let Some(l) = shuffle(r, mask, (*d, *p, *a), from) {
                    let message = format!("reads lane {}, which does not take part", from[l].0);
                    return self.breach(Check::Lanes, At { l, ..at }, message);
                }
            }
            Exchange::Vote { kind, d, p, a } => {
                let yes = r.predicate(*a) & mask;
                let holds = match kind {
                    Vote::All => yes == mask,
                    Vote::Any => yes != 0,
                    Vote::Uni => yes == mask || yes == 0,
                    Vote::Ballot => {
                        lanes(mask, |l| r.set(*d, l, yes));
                        false
                    }
                };
                r.set_predicate(*p, mask, if holds { mask } else { 0 });
            }
            Exchange::Redux { op, ty, d, a } => {
                let v = reduce(r, mask, *op, *ty, *a);
                lanes(mask, |l| r.set(*d, l, v));
            }
            Exchange::Elect { d, p } => {
                let leader = mask.trailing_zeros();
                lanes(mask, |l| r.set(*d, l, leader));
                r.set_predicate(*p, mask, 1 << leader);
            }
        }
        Ok(())
    }
}

/// The lane that lane `l` reads, and whether it is in its segment.
fn source(mode: Shuffle, l: usize, b: u32, c: u32) -> (usize, bool) {
    let (lane, b) = (l as i32, (b & 31) as i32);
    let (segment, clamp) = ((c >> 8 & 31) as i32, (c & 31) as i32);
    let last = lane & segment | clamp & !segment;
    let (j, valid) = match mode {
        Shuffle::Up => (lane - b, lane - b >= last),
        Shuffle::Down => (lane + b, lane + b <= last),
        Shuffle::Bfly => (lane ^ b, lane ^ b <= last),
        Shuffle::Idx => {
            let j = lane & segment | b & !segment;
            (j, j <= last)
        }
    };
    (if valid { j as usize } else { l }, valid)
}

/// Returns a lane that reads one outside the mask.
fn shuffle(
    r: &mut Registers,
    mask: u32,
    (d, p, a): (S, u32, S),
    from: [(usize, bool); 32],
) -> Option<usize> {
    let values = r.words[a as usize];
    r.store(mask, d, from.map(|(l, _)| values[l]));
    let valid = from.iter().rev().fold(0, |v, s| v << 1 | s.1 as u32);
    r.set_predicate(p, mask, valid);
    (0..32).find(|l| mask >> l & 1 == 1 && mask >> from[*l].0 & 1 == 0)
}

fn reduce(r: &Registers, mask: u32, op: Reduction, ty: Ty, a: S) -> u32 {
    let mut values = Vec::new();
    lanes(mask, |l| values.push(r.get(a, l) as u64));
    let op = match op {
        Reduction::Add => Int2::Add,
        Reduction::Min => Int2::Min,
        Reduction::Max => Int2::Max,
        Reduction::And => Int2::And,
        Reduction::Or => Int2::Or,
        _ => Int2::Xor,
    };
    let all = values
        .into_iter()
        .reduce(|x, y| integer::binary(op, ty, x, y));
    all.unwrap_or(0) as u32
}
