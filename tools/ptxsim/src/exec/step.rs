//! The interpreter loop: divergence, convergence, blocking and dispatch.
use super::lanes::lane_op;
use super::*;

impl<'a> Cluster<'a> {
    /// Runs one convergent group until it blocks, diverges or the budget ends.
    #[allow(unused_assignments)]
    pub(super) fn run_group(&mut self, wi: usize, gi: usize, left: &mut u32) -> R<()> {
        let code: &'a Code = self.run.code;
        let g = self.warps[wi].groups.swap_remove(gi);
        let mut pc = g.pc;
        let mut mask = g.mask;
        let fair = self.warps[wi].fair;
        let rf = Rf(self.warps[wi].regs.as_mut_ptr());
        let ps = Preds(self.warps[wi].preds.as_mut_ptr());
        let mut others = !self.warps[wi].groups.is_empty();
        let mut icount = 0u64;
        macro_rules! save {
            ($pc:expr, $st:expr) => {{
                if mask != 0 {
                    self.warps[wi].groups.push(Group {
                        pc: $pc,
                        mask,
                        st: $st,
                    });
                }
                self.warps[wi].instrs += icount;
                return Ok(());
            }};
        }
        loop {
            if *left == 0 {
                save!(pc, St::Run);
            }
            if others {
                let w = &mut self.warps[wi];
                let mut lower = false;
                let mut i = 0;
                while i < w.groups.len() {
                    let o = w.groups[i];
                    if o.st == St::Run {
                        if o.pc == pc {
                            mask |= o.mask;
                            w.groups.swap_remove(i);
                            continue;
                        }
                        lower |= o.pc < pc;
                    }
                    i += 1;
                }
                others = !w.groups.is_empty();
                if lower && !fair {
                    save!(pc, St::Run);
                }
            }
            *left -= 1;
            let inst = &code.insts[pc as usize];
            let mut em = mask;
            if let Some(gd) = inst.guard {
                em &= ps.get(gd);
                if em == 0 {
                    pc += 1;
                    icount += mask.count_ones() as u64;
                    continue;
                }
            }
            icount += mask.count_ones() as u64;
            if self.warps[wi].ninflight > 0 && !matches!(inst.op, Op::WgWait(_)) {
                self.check_inflight(pc, wi, em)?;
            }
            // split off lanes whose guard is false before anything that may block
            macro_rules! split {
                () => {
                    if em != mask {
                        let rest = mask & !em;
                        self.warps[wi].groups.push(Group {
                            pc: pc + 1,
                            mask: rest,
                            st: St::Run,
                        });
                        others = true;
                        mask = em;
                    }
                };
            }
            // all lanes named in `m` must be here
            macro_rules! converge {
                ($m:expr) => {
                    split!();
                    let m: u32 = $m;
                    if m & self.warps[wi].alive & !mask != 0 {
                        icount -= mask.count_ones() as u64;
                        save!(pc, St::Warp(m));
                    }
                };
            }
            match &inst.op {
                Op::Nop | Op::WgFence => {}
                Op::SetMaxNReg(n) => {
                    converge!(self.warps[wi].present);
                    self.warps[wi].maxnreg.push(*n);
                }
                Op::FenceProxy => self.fence_proxy(self.cta_of(wi)),
                Op::FenceInit => self.mbar_publish(self.cta_of(wi)),
                Op::Timer(d, w64) => {
                    self.clock += 32;
                    let c = self.clock;
                    lanes(em, |l| {
                        if *w64 {
                            rf.set64(*d, l, c)
                        } else {
                            rf.set(*d, l, c as u32)
                        }
                    });
                }
                Op::IsSpace(sp, p, a) => ps.set(*p, em, self.is_space(wi, rf, em, *sp, *a)),
                Op::Mapa { .. } => self.mapa(pc, wi, rf, em, &inst.op)?,
                Op::Ld { .. } => self.ld(pc, wi, rf, em, &inst.op)?,
                Op::St { .. } => self.st(pc, wi, rf, em, &inst.op)?,
                Op::Atom(s) => self.atom(pc, wi, rf, em, s)?,
                Op::Bra(t) => {
                    if em == mask {
                        pc = *t;
                        continue;
                    }
                    self.warps[wi].groups.push(Group {
                        pc: pc + 1,
                        mask: mask & !em,
                        st: St::Run,
                    });
                    others = true;
                    mask = em;
                    pc = *t;
                    continue;
                }
                Op::Brx(i, targets) => {
                    split!();
                    let mut rest = mask;
                    while rest != 0 {
                        let l = rest.trailing_zeros() as usize;
                        let v = rf.get(*i, l);
                        let Some(t) = targets.get(v as usize) else {
                            return self.fail(
                                At { pc, wi, l },
                                format!("brx.idx index {v} of {}", targets.len()),
                            );
                        };
                        let mut m = 0;
                        lanes(rest, |k| m |= ((rf.get(*i, k) == v) as u32) << k);
                        rest &= !m;
                        self.warps[wi].groups.push(Group {
                            pc: *t,
                            mask: m,
                            st: St::Run,
                        });
                    }
                    self.warps[wi].instrs += icount;
                    return Ok(());
                }
                Op::Exit => {
                    self.exit(
                        At {
                            pc,
                            wi,
                            l: em.trailing_zeros() as usize,
                        },
                        em,
                    )?;
                    mask &= !em;
                    if mask == 0 {
                        save!(pc, St::Run);
                    }
                }
                Op::Trap => {
                    return self.fail(
                        At {
                            pc,
                            wi,
                            l: em.trailing_zeros() as usize,
                        },
                        "trap",
                    );
                }
                Op::Bar { id, count, sync } => {
                    split!();
                    let (id, cnt) = (
                        self.barrier_id(pc, wi, rf, mask, *id)?,
                        count.map(|c| rf.get(c, mask.trailing_zeros() as usize)),
                    );
                    pc += 1;
                    if *sync {
                        self.warps[wi].groups.push(Group {
                            pc,
                            mask,
                            st: St::Bar(id),
                        });
                    }
                    self.bar_arrive(pc - 1, wi, id, cnt, mask, sync.then_some(None))?;
                    if *sync {
                        self.warps[wi].instrs += icount;
                        return Ok(());
                    }
                    continue;
                }
                Op::BarRed {
                    id,
                    count,
                    op,
                    d,
                    pd,
                    p,
                } => {
                    split!();
                    let (id, cnt) = (
                        self.barrier_id(pc, wi, rf, mask, *id)?,
                        count.map(|c| rf.get(c, mask.trailing_zeros() as usize)),
                    );
                    let v = ps.get(*p) & mask;
                    self.bar_red(wi, id, *op, mask, v);
                    self.warps[wi].groups.push(Group {
                        pc: pc + 1,
                        mask,
                        st: St::Bar(id),
                    });
                    let enc = (*d, *pd | (*op as u32) << 30);
                    self.bar_arrive(pc, wi, id, cnt, mask, Some(Some(enc)))?;
                    self.warps[wi].instrs += icount;
                    return Ok(());
                }
                Op::ClusterArrive(release) => self.cluster_arrive(pc, wi, em, *release)?,
                Op::ClusterWait => {
                    split!();
                    let pass = self.cluster_wait(pc, wi, mask)?;
                    if pass != mask {
                        icount -= (mask & !pass).count_ones() as u64;
                        self.warps[wi].groups.push(Group {
                            pc,
                            mask: mask & !pass,
                            st: St::Cluster,
                        });
                        others = true;
                        mask = pass;
                        if mask == 0 {
                            save!(pc, St::Run);
                        }
                    }
                }
                Op::BarWarp(m)
                | Op::Shfl { m, .. }
                | Op::Vote { m, .. }
                | Op::Match { m, .. }
                | Op::Redux { m, .. }
                | Op::Elect { m, .. } => {
                    converge!(rf.get(*m, em.trailing_zeros() as usize));
                    self.warp_op(pc, wi, rf, ps, mask, &inst.op)?;
                }
                Op::Ldmatrix { .. } | Op::Stmatrix { .. } | Op::Mma(_) => {
                    converge!(self.warps[wi].present);
                    self.warp_op(pc, wi, rf, ps, mask, &inst.op)?;
                }
                Op::WgMma(s) => {
                    converge!(self.warps[wi].present);
                    self.wg_issue(pc, wi, rf, ps, s)?;
                }
                Op::WgCommit => {
                    converge!(self.warps[wi].present);
                    self.wg_commit(wi);
                }
                Op::WgWait(n) => {
                    converge!(self.warps[wi].present);
                    if let Err(t) = self.wg_wait(wi, *n)? {
                        icount -= mask.count_ones() as u64;
                        save!(pc, St::Wg(t));
                    }
                }
                Op::MbarInit(addr, c) => self.mbar_init(pc, wi, rf, em, addr, *c)?,
                Op::MbarInval(addr) => self.mbar_inval(pc, wi, rf, em, addr)?,
                Op::MbarArrive { .. } => self.mbar_arrive(pc, wi, rf, em, &inst.op)?,
                Op::MbarExpect(sp, addr, n) => {
                    self.mbar_add_tx(pc, wi, rf, em, (*sp, addr, *n), 1)?
                }
                Op::MbarComplete(sp, addr, n) => {
                    self.mbar_add_tx(pc, wi, rf, em, (*sp, addr, *n), -1)?
                }
                Op::MbarWait { try_, p, .. } => {
                    split!();
                    let (ready, wait, wmask) = self.mbar_test(pc, wi, rf, mask, &inst.op)?;
                    // try_wait may time out: outside eager mode every other failure does
                    let mut block = *try_;
                    if block && ready != mask && self.run.cfg.mode != Mode::Eager {
                        let w = &mut self.warps[wi];
                        w.timed_out = !w.timed_out;
                        block = !w.timed_out;
                    }
                    if block {
                        // lanes that must wait block here and retry; lanes waiting elsewhere stay at this pc
                        let rest = mask & !ready & !wmask;
                        if wmask != 0 {
                            let (o, par) = wait.unwrap();
                            self.warps[wi].groups.push(Group {
                                pc,
                                mask: wmask,
                                st: St::MBar(o, par),
                            });
                        }
                        if rest != 0 {
                            self.warps[wi].groups.push(Group {
                                pc,
                                mask: rest,
                                st: St::Run,
                            });
                        }
                        others |= wmask != 0 || rest != 0;
                        mask = ready;
                        if mask == 0 {
                            self.warps[wi].instrs += icount;
                            return Ok(());
                        }
                        ps.set(*p, mask, !0);
                    } else {
                        ps.set(*p, mask, ready);
                        if ready != mask {
                            save!(pc + 1, St::Yield);
                        }
                    }
                }
                Op::CpAsync { .. } => self.cp_async(pc, wi, rf, em, &inst.op, ps)?,
                Op::CpCommit => self.cp_commit(wi, em),
                Op::CpWait(n) => self.cp_wait(wi, em, *n)?,
                Op::CpMbarArrive { addr, noinc } => {
                    self.cp_mbar_arrive(pc, wi, rf, em, addr, *noinc)?
                }
                Op::Tload(t) => self.tensor_load(pc, wi, rf, em, t)?,
                Op::BulkLoad(b) => self.bulk_load(pc, wi, rf, em, b, false)?,
                Op::BulkShared(b) => self.bulk_load(pc, wi, rf, em, b, true)?,
                Op::StAsync(s) => self.st_async(pc, wi, rf, em, s)?,
                Op::Tstore(t) => self.tensor_store(pc, wi, rf, em, t)?,
                Op::BulkStore(b) => self.bulk_store(pc, wi, rf, em, b)?,
                Op::BulkCommit => self.bulk_commit(wi, em),
                Op::BulkWait(n, read) => self.bulk_wait(wi, em, *n, *read)?,
                Op::Yield => {
                    split!();
                    self.clock += 1000;
                    save!(pc + 1, St::Yield);
                }
                op => {
                    if let Err((l, m)) = lane_op(op, rf, ps, em, &mut self.warps[wi].cc) {
                        return self.fail(At { pc, wi, l }, m);
                    }
                }
            }
            pc += 1;
        }
    }
}
