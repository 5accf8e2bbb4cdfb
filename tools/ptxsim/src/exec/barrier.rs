//! Named barriers, mbarriers and barrier.cluster.
use super::*;

/// (warp, lanes, destination and operation of bar.red)
type Waiter = (usize, u32, Option<(S, u32)>);

#[derive(Default, Clone)]
pub struct NamedBar {
    pub count: u32,
    /// u32::MAX: all threads of the CTA
    pub expected: u32,
    waiting: Vec<Waiter>,
    red_pop: u32,
    line: u32,
    clock: Clock,
}

#[derive(Debug, Clone)]
pub struct MBar {
    /// offset in its CTA
    pub o: usize,
    pub count: i64,
    pub pending: i64,
    pub tx: i64,
    pub phase: u64,
    /// the other CTAs of the cluster see it initialised
    published: bool,
    /// of the arrivals so far, and when the last phase completed
    pub arrived: Clock,
    done: Clock,
}

impl<'a> Cluster<'a> {
    // ---- bar.sync, bar.arrive, bar.red --------------------------------------------------------

    /// A barrier number, the same in all lanes.
    pub(super) fn barrier_id(&self, pc: u32, wi: usize, rf: Rf, mask: u32, s: S) -> R<u32> {
        let v = rf.get(s, mask.trailing_zeros() as usize);
        let mut bad = None;
        lanes(mask, |l| {
            if rf.get(s, l) != v {
                bad = Some(l);
            }
        });
        match bad {
            Some(l) => self.fail(At { pc, wi, l }, "operand must be uniform in the warp"),
            None if v > 15 => self.fail(At { pc, wi, l: 0 }, format!("barrier {v} does not exist")),
            None => Ok(v),
        }
    }

    /// `wait`: the lanes of `mask` block; with the destination and operation of bar.red.
    pub(super) fn bar_arrive(
        &mut self,
        pc: u32,
        wi: usize,
        id: u32,
        cnt: Option<u32>,
        mask: u32,
        wait: Option<Option<(S, u32)>>,
    ) -> R<()> {
        let at = At { pc, wi, l: 0 };
        let exp = cnt.unwrap_or(u32::MAX);
        if let Some(c) = cnt
            && (c == 0 || !c.is_multiple_of(32))
        {
            return self.fail(
                at,
                format!("barrier thread count {c} is not a multiple of 32"),
            );
        }
        let line = self.line(pc);
        let cta = self.cta_of(wi);
        let exited = self.ctas[cta].exited;
        let b = &mut self.ctas[cta].bars[id as usize];
        if b.count > 0 && b.expected != exp {
            let (x, y) = (b.expected, b.line);
            return self.fail(
                at,
                format!("barrier {id} used with {exp} threads here and {x} at line {y}"),
            );
        }
        b.expected = exp;
        b.line = line;
        b.count += mask.count_ones();
        b.clock.join(&self.warps[wi].clock);
        if let Some(r) = wait {
            b.waiting.push((wi, mask, r));
        }
        let full = if exp == u32::MAX {
            b.count + exited >= self.nthreads
        } else {
            b.count >= exp
        };
        if exp != u32::MAX && b.count > exp {
            let c = b.count;
            return self.fail(
                at,
                format!("barrier {id}: {c} threads arrived, {exp} expected"),
            );
        }
        if full {
            self.bar_release(cta, id as usize);
        }
        Ok(())
    }

    /// The predicate of bar.red; `and` counts the lanes that are false.
    pub(super) fn bar_red(&mut self, wi: usize, id: u32, op: u8, mask: u32, v: u32) {
        let cta = self.cta_of(wi);
        self.ctas[cta].bars[id as usize].red_pop += if op == 1 {
            (mask & !v).count_ones()
        } else {
            v.count_ones()
        };
    }

    fn bar_release(&mut self, cta: usize, id: usize) {
        let b = std::mem::take(&mut self.ctas[cta].bars[id]);
        self.events += 1;
        for (w, m, r) in b.waiting {
            let wp = &mut self.warps[w];
            wp.clock.join(&b.clock);
            if let Some((d, pe)) = r {
                let (op, p) = (pe >> 30, (pe & 0x3fff_ffff) as usize);
                let t = match op {
                    0 => false,
                    1 => b.red_pop == 0,
                    _ => b.red_pop > 0,
                };
                lanes(m, |l| wp.regs[d as usize][l] = b.red_pop);
                wp.preds[p] = wp.preds[p] & !m | if t { m } else { 0 };
            }
            for g in &mut wp.groups {
                if g.st == St::Bar(id as u32) && g.mask & m != 0 {
                    g.st = St::Run;
                }
            }
        }
    }

    /// Barriers of whole CTAs and of the cluster do not wait for exited threads.
    pub(super) fn exit(&mut self, at: At, em: u32) -> R<()> {
        let cta = self.cta_of(at.wi);
        self.warps[at.wi].alive &= !em;
        self.ctas[cta].exited += em.count_ones();
        self.events += 1;
        let exited = self.ctas[cta].exited;
        for id in 0..self.ctas[cta].bars.len() {
            let b = &self.ctas[cta].bars[id];
            if !b.waiting.is_empty() && b.expected == u32::MAX && b.count + exited >= self.nthreads
            {
                self.bar_release(cta, id);
            }
        }
        self.cluster_check();
        if exited == self.nthreads {
            self.cta_ends(at, cta)?;
        }
        Ok(())
    }

    // ---- barrier.cluster ----------------------------------------------------------------------

    pub(super) fn cluster_arrive(&mut self, pc: u32, wi: usize, em: u32, release: bool) -> R<()> {
        let w = &mut self.warps[wi];
        let twice = em & (w.cluster_arrived | w.cluster_done);
        if twice != 0 {
            return self.fail(
                At {
                    pc,
                    wi,
                    l: twice.trailing_zeros() as usize,
                },
                "barrier.cluster.arrive twice without barrier.cluster.wait",
            );
        }
        w.cluster_arrived |= em;
        self.cluster_clock[0].join(&w.clock);
        let cta = w.cta;
        if release {
            self.mbar_publish(cta);
        }
        self.cluster_check();
        Ok(())
    }

    /// The lanes of `em` that may pass barrier.cluster.wait.
    pub(super) fn cluster_wait(&mut self, pc: u32, wi: usize, em: u32) -> R<u32> {
        let w = &mut self.warps[wi];
        let without = em & !(w.cluster_arrived | w.cluster_done);
        if without != 0 {
            return self.fail(
                At {
                    pc,
                    wi,
                    l: without.trailing_zeros() as usize,
                },
                "barrier.cluster.wait without barrier.cluster.arrive",
            );
        }
        let pass = em & w.cluster_done;
        w.cluster_done &= !pass;
        if pass != 0 {
            w.clock.join(&self.cluster_clock[1]);
        }
        Ok(pass)
    }

    /// Completes the phase once every thread that has not exited arrived.
    fn cluster_check(&mut self) {
        let full = self.warps.iter().all(|w| w.alive & !w.cluster_arrived == 0)
            && self.warps.iter().any(|w| w.cluster_arrived != 0);
        if !full {
            return;
        }
        self.events += 1;
        self.cluster_clock[1] = self.cluster_clock[0].clone();
        for w in &mut self.warps {
            w.cluster_done |= w.cluster_arrived;
            w.cluster_arrived = 0;
            for g in &mut w.groups {
                if g.st == St::Cluster {
                    g.st = St::Run;
                }
            }
        }
    }

    /// (arrived, not exited) threads of the cluster
    pub(super) fn cluster_counts(&self) -> (u32, u32) {
        self.warps.iter().fold((0, 0), |(x, y), w| {
            (
                x + (w.cluster_arrived & w.alive).count_ones(),
                y + w.alive.count_ones(),
            )
        })
    }

    // ---- mbarrier -----------------------------------------------------------------------------

    pub(super) fn mbar_init(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        addr: &Addr,
        count: S,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let p = self.shared(at, Sp::Shared, self.ea(rf, addr, l), 8)?;
            if p.o & 7 != 0 {
                return self.fail(at, "mbarrier is not 8-byte aligned");
            }
            let n = rf.get(count, l) as i64;
            if !(1..1 << 20).contains(&n) {
                return self.fail(at, format!("mbarrier count {n} out of range"));
            }
            self.shared_write(p, &[0u8; 8], Some(p.cta));
            let bars = &mut self.ctas[p.cta].mbars;
            bars.retain(|b| b.o != p.o);
            bars.push(MBar {
                o: p.o,
                count: n,
                pending: n,
                tx: 0,
                phase: 0,
                published: false,
                arrived: Clock::default(),
                done: Clock::default(),
            });
            Ok(())
        })
    }

    pub(super) fn mbar_inval(&mut self, pc: u32, wi: usize, rf: Rf, em: u32, addr: &Addr) -> R<()> {
        try_lanes(em, |l| {
            let p = self.shared(At { pc, wi, l }, Sp::Shared, self.ea(rf, addr, l), 8)?;
            self.ctas[p.cta].mbars.retain(|b| b.o != p.o);
            Ok(())
        })
    }

    pub(super) fn mbar_arrive(&mut self, pc: u32, wi: usize, rf: Rf, em: u32, op: &Op) -> R<()> {
        let Op::MbarArrive {
            sp,
            addr,
            count,
            expect,
            drop,
            d,
        } = op
        else {
            unreachable!()
        };
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let p = self.shared(at, *sp, self.ea(rf, addr, l), 8)?;
            self.mbar_release(at, p)?;
            self.check_published(at, p)?;
            let b = self.mbar(at, p)?;
            rf.set64(*d, l, b.phase);
            if *drop {
                b.count -= 1;
            }
            if *expect != NO {
                self.mbar_tx(at, p, rf.get(*expect, l) as i64)?;
            }
            self.mbar_count(at, p, rf.get(*count, l) as i64)
        })
    }

    /// expect_tx (`sign` 1) and complete_tx (-1)
    pub(super) fn mbar_add_tx(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        (sp, addr, n): (Sp, &Addr, S),
        sign: i64,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let p = self.shared(at, sp, self.ea(rf, addr, l), 8)?;
            self.mbar_release(at, p)?;
            self.mbar_tx(at, p, sign * rf.get(n, l) as i64)?;
            self.mbar_check(at, p)
        })
    }

    /// The lanes whose phase completed, and the (offset, parity) and lanes of one barrier others wait for.
    #[allow(clippy::type_complexity)]
    pub(super) fn mbar_test(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        mask: u32,
        op: &Op,
    ) -> R<(u32, Option<(usize, u32)>, u32)> {
        let Op::MbarWait { addr, v, state, .. } = op else {
            unreachable!()
        };
        let (mut ready, mut wait, mut wmask) = (0, None, 0);
        try_lanes(mask, |l| {
            let at = At { pc, wi, l };
            let p = self.shared(at, Sp::Shared, self.ea(rf, addr, l), 8)?;
            self.mbar(at, p)?;
            let b = self.ctas[p.cta].mbars.iter().find(|b| b.o == p.o).unwrap();
            let par = if *state {
                rf.get(*v, l) & 1
            } else {
                rf.get(*v, l)
            };
            if par > 1 {
                return self.fail(at, format!("mbarrier parity {par}"));
            }
            if b.phase & 1 != par as u64 {
                ready |= 1 << l;
                self.warps[wi].clock.join(&b.done);
            } else if wait.is_none() || wait == Some((p.o, par)) {
                wait = Some((p.o, par));
                wmask |= 1 << l;
            }
            Ok(())
        })?;
        Ok((ready, wait, wmask))
    }

    pub(super) fn mbar(&mut self, at: At, p: Loc) -> R<&mut MBar> {
        match self.ctas[p.cta].mbars.iter().position(|b| b.o == p.o) {
            Some(i) => Ok(&mut self.ctas[p.cta].mbars[i]),
            None => self.fail(
                at,
                format!("no mbarrier was initialised at 0x{:x}", p.addr()),
            ),
        }
    }

    /// fence.mbarrier_init, barrier.cluster.arrive.release
    pub(super) fn mbar_publish(&mut self, cta: usize) {
        for b in &mut self.ctas[cta].mbars {
            b.published = true;
        }
    }

    /// Before an operation on an mbarrier, perhaps of another CTA.
    pub(super) fn check_published(&mut self, at: At, p: Loc) -> R<()> {
        let published = self.mbar(at, p)?.published;
        if published || p.cta == self.cta_of(at.wi) {
            return Ok(());
        }
        self.report(self.run.cfg.proxy, at, 7, || {
            format!("mbarrier 0x{:x} of another CTA, initialised without fence.mbarrier_init or a releasing barrier.cluster.arrive", p.addr())
        })
    }

    /// The arriving warp's knowledge goes to whoever waits for the phase.
    fn mbar_release(&mut self, at: At, p: Loc) -> R<()> {
        let clock = std::mem::take(&mut self.warps[at.wi].clock);
        let r = self.mbar(at, p).map(|b| b.arrived.join(&clock));
        self.warps[at.wi].clock = clock;
        r
    }

    pub(super) fn mbar_tx(&mut self, at: At, p: Loc, n: i64) -> R<()> {
        let b = self.mbar(at, p)?;
        b.tx += n;
        if b.tx.abs() >= 1 << 20 {
            return self.fail(at, "mbarrier transaction count out of range");
        }
        Ok(())
    }

    /// `n` arrivals
    pub(super) fn mbar_count(&mut self, at: At, p: Loc, n: i64) -> R<()> {
        let b = self.mbar(at, p)?;
        b.pending -= n;
        if b.pending < 0 {
            return self.fail(
                at,
                format!("more arrivals than expected on mbarrier 0x{:x}", p.addr()),
            );
        }
        self.mbar_check(at, p)
    }

    pub(super) fn mbar_check(&mut self, at: At, p: Loc) -> R<()> {
        let b = self.mbar(at, p)?;
        if b.pending == 0 && b.tx == 0 {
            b.phase += 1;
            b.pending = b.count;
            b.done = b.arrived.clone();
            self.events += 1;
        }
        Ok(())
    }
}
