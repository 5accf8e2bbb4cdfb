//! The interpreter loop: divergence, convergence, blocking and dispatch.

use super::warp::{State, Warp};
use super::{At, Cluster, R, lanes};
use crate::alu::registers;
use crate::fragments;
use crate::ir::*;

/// A group of lanes that runs.
struct Running {
    wi: usize,
    pc: u32,
    mask: u32,
    /// the warp has other groups
    others: bool,
    /// a group with a lower pc does not go first
    fair: bool,
}

/// What comes after an instruction.
enum Flow {
    Next,
    Jump,
    /// the group is done for now
    Stop,
    /// the group is done for now, and comes to the same instruction again
    Again,
}

impl Running {
    fn at(&self) -> At {
        At {
            pc: self.pc,
            wi: self.wi,
            l: self.mask.trailing_zeros() as usize,
        }
    }

    /// Takes in runnable groups at the same instruction; whether this group goes on, as none is behind it.
    fn merge(&mut self, w: &mut Warp) -> bool {
        let mut behind = false;
        w.groups.retain(|g| {
            let runs = g.state == State::Run;
            let same = runs && g.pc == self.pc;
            if same {
                self.mask |= g.mask;
            }
            behind |= runs && g.pc < self.pc;
            !same
        });
        self.others = !w.groups.is_empty();
        !behind || self.fair
    }
}

impl Cluster<'_> {
    /// Runs a group until it blocks or has to let another one go on, or the slice ends. What it does is counted if `COUNT`.
    pub(super) fn run_group<const COUNT: bool>(
        &mut self,
        wi: usize,
        group: usize,
        left: &mut u32,
    ) -> R<()> {
        let w = &mut self.warps[wi];
        let group = w.groups.swap_remove(group);
        let mut run = Running {
            wi,
            pc: group.pc,
            mask: group.mask,
            others: !w.groups.is_empty(),
            fair: w.fair,
        };
        let (strict, events) = (self.strict(), self.events);
        // In a strict order, a warp of higher priority may go on as soon as something happens.
        while *left > 0 && !(strict && self.events != events) {
            if run.others && !run.merge(&mut self.warps[wi]) {
                break;
            }
            *left -= 1;
            match self.step::<COUNT>(&mut run)? {
                Flow::Next => run.pc += 1,
                Flow::Jump => {}
                Flow::Stop | Flow::Again => return Ok(()),
            }
        }
        self.warps[wi].wait(run.pc, run.mask, State::Run);
        Ok(())
    }

    #[inline(always)]
    fn step<const COUNT: bool>(&mut self, run: &mut Running) -> R<Flow> {
        let code = self.code();
        let inst = &code.insts[run.pc as usize];
        let w = &mut self.warps[run.wi];
        w.instructions += run.mask.count_ones() as u64;
        let mask = match inst.guard {
            Some(p) => run.mask & w.registers.predicate(p),
            None => run.mask,
        };
        if mask == 0 {
            if COUNT {
                self.note_guarded(&inst.op);
            }
            return Ok(Flow::Next);
        }
        if !COUNT {
            return self.execute(run, mask, inst);
        }
        let at = At {
            l: mask.trailing_zeros() as usize,
            ..run.at()
        };
        let pipe = self.note_memory(at, mask, &inst.op);
        let flow = self.execute(run, mask, inst)?;
        if !matches!(flow, Flow::Again) {
            self.note_done(at, &inst.op, pipe, !matches!(flow, Flow::Stop));
        }
        Ok(flow)
    }

    /// Executes an instruction in some of the lanes that run.
    #[inline(always)]
    fn execute(&mut self, run: &mut Running, mask: u32, inst: &Inst) -> R<Flow> {
        if self.code().has_wgmma && !matches!(inst.op, Op::Wgmma(_)) {
            self.touch_registers(run.at())?;
        }
        if lanes::execute(&inst.op, &mut self.warps[run.wi].registers, mask) {
            return Ok(Flow::Next);
        }
        let at = At {
            l: mask.trailing_zeros() as usize,
            ..run.at()
        };
        if self.straight(at, mask, &inst.op)? {
            return Ok(Flow::Next);
        }
        if let Some(flow) = self.branch(run, at, mask, &inst.op)? {
            return Ok(flow);
        }
        // Lanes whose guard is false go on; the others may block.
        self.split(run, mask, run.pc + 1);
        match self.collective(run, &inst.op)? {
            Some(flow) => Ok(flow),
            None => self.blocking(run, &inst.op),
        }
    }

    /// Instructions after which every lane goes on to the next; whether `op` is one.
    #[inline(always)]
    fn straight(&mut self, at: At, mask: u32, op: &Op) -> R<bool> {
        match op {
            Op::Nop => {}
            Op::Clock(bytes, d) => self.clock(at.wi, mask, *bytes, *d),
            Op::Ld {
                space,
                bytes,
                addr,
                d,
            } => self.ld(at, mask, (*space, *bytes), addr, d)?,
            Op::St {
                space,
                bytes,
                addr,
                s,
            } => self.st(at, mask, (*space, *bytes), addr, s)?,
            Op::Atom(s) => self.atom(at, mask, s)?,
            Op::Mapa { d, a, rank, wide } => self.mapa(at, mask, (*d, *a, *rank), *wide)?,
            Op::FenceProxy => self.fence_proxy(self.cta_of(at.wi)),
            Op::FenceInit => self.publish(self.cta_of(at.wi)),
            Op::Mbarrier(_, MbarrierOp::Wait { .. }) => return Ok(false),
            Op::Mbarrier(addr, op) => self.mbarrier_op(at, mask, addr, op)?,
            Op::CpAsync(s) => self.cp_async(at, mask, s)?,
            Op::CpCommit => self.cp_commit(at.wi, mask),
            Op::CpWait(pending) => self.cp_wait(at, mask, *pending)?,
            Op::CpArrive { mbarrier, noinc } => self.cp_arrive(at, mask, mbarrier, *noinc)?,
            Op::BulkLoad(s) => self.bulk_load(at, mask, s)?,
            Op::BulkStore(s) => self.bulk_store(at, mask, s)?,
            Op::BulkCommit => self.bulk_commit(at.wi, mask),
            Op::BulkWait { pending, read } => self.bulk_wait(at.wi, mask, *pending, *read)?,
            Op::ClusterArrive { release } => self.cluster_arrive(at, mask, *release)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// %clock, %globaltimer: what grows.
    fn clock(&mut self, wi: usize, mask: u32, bytes: usize, d: S) {
        let w = &mut self.warps[wi];
        let now = w.instructions;
        registers::lanes(mask, |l| w.registers.set_raw(d, bytes, l, now));
    }

    fn branch(&mut self, run: &mut Running, at: At, mask: u32, op: &Op) -> R<Option<Flow>> {
        Ok(Some(match op {
            Op::Bra(target) => {
                self.split(run, mask, run.pc + 1);
                run.pc = *target;
                Flow::Jump
            }
            Op::Exit => {
                self.exit(at, mask)?;
                run.mask &= !mask;
                if run.mask == 0 {
                    Flow::Stop
                } else {
                    Flow::Next
                }
            }
            Op::Trap => return self.fail(at, "trap"),
            _ => return Ok(None),
        }))
    }

    /// Keeps the lanes of `mask`; the others go on at `pc`.
    fn split(&mut self, run: &mut Running, mask: u32, pc: u32) {
        if mask != run.mask {
            self.warps[run.wi].wait(pc, run.mask & !mask, State::Run);
            run.others = true;
            run.mask = mask;
        }
    }

    /// Whether all lanes of a mask that have not exited are here; otherwise those that are wait.
    fn converge(&mut self, run: &mut Running, members: u32) -> bool {
        let w = &mut self.warps[run.wi];
        let here = members & w.alive & !run.mask == 0;
        if !here {
            w.instructions -= run.mask.count_ones() as u64;
            w.wait(run.pc, run.mask, State::Lanes(members));
        }
        here
    }

    /// Instructions for which the lanes of a warp come together.
    fn collective(&mut self, run: &mut Running, op: &Op) -> R<Option<Flow>> {
        let whole = matches!(
            op,
            Op::SetMaxNReg(_)
                | Op::Ldmatrix { .. }
                | Op::Stmatrix { .. }
                | Op::Mma(_)
                | Op::WmmaLoad(_)
                | Op::WmmaStore(_)
                | Op::Wmma(_)
                | Op::WgmmaFence
                | Op::Wgmma(_)
                | Op::WgmmaCommit
                | Op::WgmmaWait(_)
                | Op::Bar { aligned: true, .. }
        );
        let members = match op {
            Op::Exchange { members, .. } => self.members(run, *members)?,
            _ if whole => self.warps[run.wi].present,
            _ => return Ok(None),
        };
        if !self.converge(run, members) {
            return Ok(Some(Flow::Again));
        }
        let at = run.at();
        let w = &mut self.warps[run.wi];
        match op {
            Op::Exchange { op, .. } => self.exchange(at, run.mask, op)?,
            Op::SetMaxNReg(n) => w.max_registers.push(*n),
            Op::Ldmatrix { trans, d, addr } => self.ldmatrix(at, *trans, d, addr)?,
            Op::Stmatrix { trans, s, addr } => self.stmatrix(at, *trans, s, addr)?,
            Op::Mma(s) => {
                fragments::mma(&mut w.registers, s);
                self.stats.mma += 1;
            }
            Op::WmmaLoad(s) => self.wmma_load(at, run.mask, s)?,
            Op::WmmaStore(s) => self.wmma_store(at, run.mask, s)?,
            Op::Wmma(s) => self.wmma(at, run.mask, s)?,
            Op::WgmmaFence => w.wgmma.fence(),
            Op::Wgmma(s) => self.wgmma_issue(at, s)?,
            Op::WgmmaCommit => self.wgmma_commit(run.wi),
            Op::WgmmaWait(pending) => {
                if let Some(n) = self.wgmma_wait(run.wi, *pending)? {
                    let w = &mut self.warps[run.wi];
                    w.instructions -= run.mask.count_ones() as u64;
                    w.wait(run.pc, run.mask, State::Wgmma(n));
                    return Ok(Some(Flow::Again));
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(Flow::Next))
    }

    /// The mask that lanes name; those that name another one than the first come later.
    fn members(&mut self, run: &mut Running, s: S) -> R<u32> {
        let members = self.reg(run.at(), s);
        let mut same = 0;
        registers::lanes(run.mask, |l| {
            same |= ((self.reg(At { l, ..run.at() }, s) == members) as u32) << l;
        });
        self.split(run, same, run.pc);
        if same & !members != 0 {
            return self.fail(
                run.at(),
                format!("a lane that mask {members:08x} does not name"),
            );
        }
        Ok(members)
    }

    /// Instructions at which lanes may stay.
    fn blocking(&mut self, run: &mut Running, op: &Op) -> R<Flow> {
        match op {
            Op::Bar {
                id,
                count,
                wait,
                aligned,
            } => {
                let how = (*wait, *aligned);
                self.barrier(run.at(), run.mask, (*id, *count), how)?;
                Ok(if *wait { Flow::Stop } else { Flow::Next })
            }
            Op::ClusterWait => {
                let pass = self.cluster_wait(run.at(), run.mask)?;
                let w = &mut self.warps[run.wi];
                w.wait(run.pc, run.mask & !pass, State::Cluster);
                Ok(self.keep(run, pass))
            }
            Op::Mbarrier(addr, MbarrierOp::Wait { v, state, try_, p }) => {
                self.mbarrier_wait(run, addr, (*v, *state), *try_, *p)
            }
            Op::Yield => {
                self.warps[run.wi].wait(run.pc + 1, run.mask, State::Yield);
                Ok(Flow::Stop)
            }
            other => self.fail(run.at(), format!("{other:?} is not implemented")),
        }
    }

    /// Only these lanes go on.
    fn keep(&mut self, run: &mut Running, mask: u32) -> Flow {
        run.others |= mask != run.mask;
        run.mask = mask;
        if mask == 0 { Flow::Again } else { Flow::Next }
    }

    fn mbarrier_wait(
        &mut self,
        run: &mut Running,
        addr: &Addr,
        what: (S, bool),
        try_: bool,
        p: u32,
    ) -> R<Flow> {
        let found = self.test(run.at(), run.mask, addr, what)?;
        let failed = found.ready != run.mask;
        let times_out = failed && try_ && self.times_out(run.wi);
        let w = &mut self.warps[run.wi];
        if !try_ || times_out {
            w.registers.set_predicate(p, run.mask, found.ready);
            if !failed {
                return Ok(Flow::Next);
            }
            w.wait(run.pc + 1, run.mask, State::Yield);
            return Ok(Flow::Stop);
        }
        // Lanes that wait for another mbarrier try again.
        w.wait(run.pc, found.waiting, found.state);
        let rest = run.mask & !found.ready & !found.waiting;
        w.wait(run.pc, rest, State::Run);
        w.registers.set_predicate(p, found.ready, found.ready);
        Ok(self.keep(run, found.ready))
    }

    /// try_wait may time out: outside eager mode every other failure does.
    fn times_out(&mut self, wi: usize) -> bool {
        if self.job.launch.mode == crate::launch::Mode::Eager {
            return false;
        }
        let w = &mut self.warps[wi];
        w.timed_out = !w.timed_out;
        w.timed_out
    }
}
