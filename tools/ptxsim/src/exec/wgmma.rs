//! wgmma: agreement of the four warps, execution, registers in flight.

use super::address::{Loc, START};
use super::{At, Cluster, R};
use crate::descriptor::Descriptor;
use crate::fragments;
use crate::ir::*;
use crate::launch::Check;
use crate::ty::Ty;

#[derive(Debug, Clone)]
struct Issued {
    pc: u32,
    a: u64,
    b: u64,
    scale_d: bool,
    eager: bool,
    /// offsets of the 16-byte units that it reads
    reads: Vec<usize>,
}

/// The wgmmas of one warpgroup, in program order.
#[derive(Debug, Clone, Default)]
pub struct Warpgroup {
    all: Vec<Issued>,
    /// by each warp
    pub issued: [usize; 4],
    pub executed: usize,
    /// how many each warp has waited for
    waited: [usize; 4],
}

impl Warpgroup {
    /// How many all warps have waited for. The warps' quarters of an instruction are not done at the same time: one
    /// warp's wait says nothing of what the others' still read.
    fn finished(&self) -> usize {
        self.waited.iter().min().copied().unwrap_or(0)
    }

    /// The unfinished instruction that reads a unit.
    pub fn reader(&self, o: usize) -> Option<u32> {
        let mut unfinished = self.all[self.finished()..].iter();
        unfinished.find(|w| w.reads.contains(&o)).map(|w| w.pc)
    }
}

/// How a wgmma that a warp has not waited for uses a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    None,
    A,
    Accumulator,
}

/// What a warp has issued and not waited for.
#[derive(Default)]
pub struct Outstanding {
    /// by slot
    uses: Vec<Use>,
    /// how many wgmmas were issued before each commit
    commits: Vec<usize>,
    waited: usize,
    /// number of the fence before the last ordinary access, by slot
    accessed: Vec<u32>,
    fences: u32,
}

impl Outstanding {
    pub fn new(code: &Code) -> Self {
        let slots = if code.has_wgmma {
            code.slots as usize
        } else {
            0
        };
        Self {
            uses: vec![Use::None; slots],
            accessed: vec![0; slots],
            ..Self::default()
        }
    }

    pub fn fence(&mut self) {
        self.fences += 1;
    }

    fn take(&mut self, s: &Wgmma) {
        if let WgmmaA::Registers(registers) = &s.a {
            registers
                .iter()
                .for_each(|s| self.uses[*s as usize] = Use::A);
        }
        s.d.iter()
            .for_each(|s| self.uses[*s as usize] = Use::Accumulator);
    }
}

impl Cluster<'_> {
    /// Notes which registers an instruction touches; none may belong to an unfinished wgmma.
    pub(super) fn touch_registers(&mut self, at: At) -> R<()> {
        let code = self.code();
        let own = &mut self.warps[at.wi].wgmma;
        let mut bad = None;
        for s in code.uses(at.pc) {
            if own.uses[*s as usize] == Use::Accumulator {
                bad = Some((*s, "reads"));
            }
            own.accessed[*s as usize] = own.fences + 1;
        }
        for s in code.defs(at.pc) {
            if own.uses[*s as usize] != Use::None {
                bad = Some((*s, "overwrites"));
            }
            own.accessed[*s as usize] = own.fences + 1;
        }
        match bad {
            None => Ok(()),
            Some((s, what)) => {
                let name = &code.register_names[s as usize];
                self.breach(
                    Check::Registers,
                    at,
                    format!("{what} {name}, which belongs to a wgmma that was not waited for"),
                )
            }
        }
    }

    /// A wgmma may take registers that it shares with unfinished ones, or that a fence orders after ordinary accesses.
    fn take_registers(&mut self, at: At, s: &Wgmma) -> R<()> {
        let own = &mut self.warps[at.wi].wgmma;
        let a: &[S] = match &s.a {
            WgmmaA::Registers(registers) => registers,
            WgmmaA::Descriptor(_) => &[],
        };
        let unfinished = a
            .iter()
            .find(|s| own.uses[**s as usize] == Use::Accumulator);
        let now = own.fences + 1;
        let unfenced = a
            .iter()
            .chain(&s.d)
            .find(|s| own.accessed[**s as usize] == now);
        let message = if let Some(s) = unfinished {
            format!(
                "A is {}, an accumulator of a wgmma that was not waited for",
                self.code().register_names[*s as usize]
            )
        } else if let Some(s) = unfenced {
            format!(
                "no wgmma.fence since {} was last accessed",
                self.code().register_names[*s as usize]
            )
        } else if own.fences == 0 {
            "no wgmma.fence before the first wgmma".into()
        } else {
            own.take(s);
            return Ok(());
        };
        self.warps[at.wi].wgmma.take(s);
        self.breach(Check::Registers, at, message)
    }

    /// A 64-bit operand, the same in all lanes.
    fn uniform64(&self, at: At, s: S) -> R<u64> {
        let v = self.reg64(at, s);
        if (1..32).any(|l| self.reg64(At { l, ..at }, s) != v) {
            return self.fail(at, "a descriptor differs between the lanes of a warp");
        }
        Ok(v)
    }

    fn operands(&self, at: At, s: &Wgmma) -> R<Issued> {
        let scale_d = match s.scale_d {
            ScaleD::Immediate(scale) => scale,
            ScaleD::Predicate(p) => match self.warps[at.wi].registers.predicate(p) {
                0 => false,
                u32::MAX => true,
                _ => return self.fail(at, "scale-d differs between the lanes of a warp"),
            },
        };
        Ok(Issued {
            pc: at.pc,
            a: match s.a {
                WgmmaA::Descriptor(slot) => self.uniform64(at, slot)?,
                WgmmaA::Registers(_) => 0,
            },
            b: self.uniform64(at, s.b)?,
            scale_d,
            eager: false,
            reads: vec![],
        })
    }

    pub(super) fn wgmma_issue(&mut self, at: At, s: &Wgmma) -> R<()> {
        let w = &self.warps[at.wi];
        let (cta, g, k) = (w.cta, w.warpgroup(), w.in_warpgroup());
        if self.job.warps() < (g + 1) * 4 || w.present != u32::MAX {
            return self.fail(at, "wgmma needs a full warpgroup of 128 threads");
        }
        let new = self.operands(at, s)?;
        let index = self.ctas[cta].warpgroups[g].issued[k];
        match self.ctas[cta].warpgroups[g].all.get(index) {
            None => self.first_issue(at, s, new)?,
            Some(first) => {
                let key = |w: &Issued| (w.pc, w.a, w.b, w.scale_d);
                if key(first) != key(&new) {
                    let line = self.line(first.pc);
                    return self.fail(
                        at,
                        format!(
                            "the warps of warpgroup {g} disagree: another one issued the \
                         wgmma of line {line}, or with other operands"
                        ),
                    );
                }
            }
        }
        self.ctas[cta].warpgroups[g].issued[k] += 1;
        self.take_registers(at, s)?;
        // Eager: as soon as the whole warpgroup has issued it.
        loop {
            let w = &self.ctas[cta].warpgroups[g];
            let all = w.issued.iter().min().copied().unwrap_or(0);
            if w.executed >= all || !w.all[w.executed].eager {
                return Ok(());
            }
            self.wgmma_execute(cta, g)?;
        }
    }

    /// By the first of the four warps.
    fn first_issue(&mut self, at: At, s: &Wgmma, mut new: Issued) -> R<()> {
        let w = &self.warps[at.wi];
        let (cta, g) = (w.cta, w.warpgroup());
        new.eager = self.acts_now();
        new.reads = self.units(at, new.b, s.transpose_b, s.n)?;
        if let WgmmaA::Descriptor(_) = s.a {
            new.reads.extend(self.units(at, new.a, s.transpose_a, 64)?);
        }
        for o in &new.reads {
            self.race_read_together(at, Loc { cta, o: *o }, 16)?;
            self.ctas[cta].shared.add_reader(*o, 16, true);
        }
        self.ctas[cta].warpgroups[g].all.push(new);
        self.stats.wgmma += 1;
        Ok(())
    }

    pub(super) fn wgmma_commit(&mut self, wi: usize) {
        let w = &mut self.warps[wi];
        let n = self.ctas[w.cta].warpgroups[w.warpgroup()].issued[w.in_warpgroup()];
        w.wgmma.commits.push(n);
    }

    /// wait_group: how many wgmmas all warps must have issued first, unless they have.
    pub(super) fn wgmma_wait(&mut self, wi: usize, pending: usize) -> R<Option<usize>> {
        let w = &self.warps[wi];
        let (cta, g) = (w.cta, w.warpgroup());
        let commits = &w.wgmma.commits;
        let last = commits.len().checked_sub(1 + pending);
        let target = last.map_or(0, |i| commits[i]);
        let Some(group) = self.ctas[cta].warpgroups.get(g) else {
            return Ok(None);
        };
        if group.issued.iter().any(|n| *n < target) {
            return Ok(Some(target));
        }
        while self.ctas[cta].warpgroups[g].executed < target {
            self.wgmma_execute(cta, g)?;
        }
        self.retire(wi, target);
        Ok(None)
    }

    fn retire(&mut self, wi: usize, target: usize) {
        let code = self.code();
        let w = &mut self.warps[wi];
        if target <= w.wgmma.waited {
            return;
        }
        w.wgmma.waited = target;
        w.wgmma.uses.fill(Use::None);
        let cta = &mut self.ctas[w.cta];
        let group = &mut cta.warpgroups[w.thread0 / 128];
        for issued in &group.all[target..group.issued[w.thread0 / 32 % 4]] {
            if let Op::Wgmma(s) = &code.insts[issued.pc as usize].op {
                w.wgmma.take(s);
            }
        }
        let from = group.finished();
        group.waited[w.thread0 / 32 % 4] = target;
        let to = group.finished();
        for issued in group.all.iter_mut().take(to).skip(from) {
            for o in std::mem::take(&mut issued.reads) {
                cta.shared.add_reader(o, 16, false);
            }
        }
    }

    fn wgmma_execute(&mut self, cta: usize, g: usize) -> R<()> {
        self.events += 1;
        let code = self.code();
        let group = &mut self.ctas[cta].warpgroups[g];
        let Issued {
            pc, a, b, scale_d, ..
        } = group.all[group.executed];
        group.executed += 1;
        let wi = cta * self.job.warps() + g * 4;
        let at = At { pc, wi, l: 0 };
        let Op::Wgmma(s) = &code.insts[pc as usize].op else {
            unreachable!()
        };
        let b = self.matrix(at, b, s.transpose_b, s.n, s.ty)?;
        let a = match &s.a {
            WgmmaA::Descriptor(_) => Some(self.matrix(at, a, s.transpose_a, 64, s.ty)?),
            WgmmaA::Registers(_) => None,
        };
        for k in 0..4 {
            let r = &mut self.warps[wi + k].registers;
            fragments::wgmma(r, s, k, (a.as_deref(), &b), scale_d);
        }
        Ok(())
    }

    /// Offsets of the 16-byte units of a matrix of `mn` times 16.
    fn units(&self, at: At, descriptor: u64, mn_major: bool, mn: usize) -> R<Vec<usize>> {
        let d = Descriptor::new(descriptor);
        let (outer, inner) = if mn_major { (16, mn) } else { (mn, 16) };
        let mut units = Vec::with_capacity(mn * 2);
        for o in 0..outer {
            for u in 0..inner / 8 {
                let a = d.address(mn_major, o, u);
                if a < START || a + 16 > START + self.job.shared_bytes as u64 {
                    return self.fail(
                        at,
                        format!(
                            "an operand at shared address 0x{a:x} is out of bounds \
                         (descriptor 0x{descriptor:016x})"
                        ),
                    );
                }
                units.push((a - START) as usize);
            }
        }
        Ok(units)
    }

    /// Reads an operand through a matrix descriptor: `[k][mn]`.
    fn matrix(
        &mut self,
        at: At,
        descriptor: u64,
        mn_major: bool,
        mn: usize,
        ty: Ty,
    ) -> R<Vec<f32>> {
        let units = self.units(at, descriptor, mn_major, mn)?;
        let cta = self.cta_of(at.wi);
        let mut out = vec![0.0; mn * 16];
        let per_row = if mn_major { mn / 8 } else { 2 };
        for (i, o) in units.into_iter().enumerate() {
            self.check_async_read(at, Loc { cta, o }, 16)?;
            let bytes = &self.ctas[cta].shared.bytes[o..o + 16];
            let (outer, first) = (i / per_row, i % per_row * 8);
            for (e, bytes) in bytes.chunks_exact(2).enumerate() {
                let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
                let (k, m) = if mn_major {
                    (outer, first + e)
                } else {
                    (first + e, outer)
                };
                out[k * mn + m] = match ty {
                    Ty::BF16 => f32::from_bits((bits as u32) << 16),
                    _ => half::f16::from_bits(bits).to_f32(),
                };
            }
        }
        Ok(out)
    }
}
