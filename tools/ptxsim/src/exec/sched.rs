//! Warp scheduling, the end of a cluster, deadlock reports.
use super::*;

const BUDGET: u32 = 2000;

impl<'a> Cluster<'a> {
    pub fn run(&mut self) -> R<()> {
        let n = self.warps.len();
        let mut order: Vec<usize> = (0..n).collect();
        let random = matches!(self.run.cfg.schedule, Schedule::Random(_))
            || (matches!(self.run.cfg.mode, Mode::Random(_))
                && self.run.cfg.schedule == Schedule::RoundRobin);
        self.strict = !random && self.run.cfg.schedule != Schedule::RoundRobin;
        if self.run.cfg.schedule == Schedule::HighFirst {
            order.reverse();
        }
        let mut soft_rounds = 0u64;
        let mut last_events = 0u64;
        let mut dry_rounds = 0u64;
        loop {
            if random {
                for i in (1..n).rev() {
                    let j = rng_next(&mut self.rng) as usize % (i + 1);
                    order.swap(i, j);
                }
            }
            let mut ran = false;
            for &w in &order {
                let budget = if random {
                    1 + (rng_next(&mut self.rng) % 300) as u32
                } else {
                    BUDGET
                };
                ran |= self.run_warp(w, budget, false)?;
                // strict priority, but nobody starves behind an endless spin
                if ran && self.strict && dry_rounds % 64 != 63 {
                    break;
                }
            }
            if self.ctas.iter().all(|c| c.exited == self.nthreads) {
                break;
            }
            if self.events != last_events {
                last_events = self.events;
                soft_rounds = 0;
                dry_rounds = 0;
            }
            if ran {
                dry_rounds += 1;
                if dry_rounds.is_multiple_of(1000) && self.land_one(true)? {
                    continue;
                }
                if dry_rounds.is_multiple_of(1000)
                    && self.warps.iter().map(|w| w.instrs).sum::<u64>() / 32
                        > self.run.cfg.max_warp_instructions
                {
                    return self.deadlock("instruction limit reached (endless loop?)");
                }
                continue;
            }
            // everything is blocked or spinning: complete a load somebody waits for,
            if self.land_one(false)? {
                continue;
            }
            // let spinning threads look again,
            let mut soft = false;
            for &w in &order {
                soft |= self.run_warp(w, BUDGET, true)?;
            }
            if soft {
                soft_rounds += 1;
                if soft_rounds > 20_000 {
                    return self.deadlock("deadlock: only spinning threads are left");
                }
                if !soft_rounds.is_multiple_of(4) {
                    continue;
                }
            }
            // and finally complete any load
            if self.land_one(true)? || soft {
                continue;
            }
            if self.ctas.iter().all(|c| c.exited == self.nthreads) {
                break;
            }
            return self.deadlock("deadlock: no thread can make progress");
        }
        self.finish()
    }

    fn finish(&mut self) -> R<()> {
        let pc = self.run.code.insts.len() as u32 - 1;
        while self.land_one(true)? {
            self.report(Policy::Warn, At { pc, wi: 0, l: 0 }, 1, || {
                "bulk load still outstanding when the CTA ends".into()
            })?;
        }
        for wi in 0..self.warps.len() {
            for l in 0..32 {
                self.finish_stores(At { pc, wi, l })?;
            }
        }
        for cta in 0..self.ctas.len() {
            self.finish_warpgroups(pc, cta)?;
        }
        self.stats.instructions = self.warps.iter().map(|w| w.instrs).sum();
        Ok(())
    }

    /// What the warps of each warpgroup must have done alike.
    fn finish_warpgroups(&mut self, pc: u32, cta: usize) -> R<()> {
        let w0 = cta * self.warps_per_cta;
        for g in 0..self.ctas[cta].wgs.len() {
            let at = At {
                pc,
                wi: w0 + g * 4,
                l: 0,
            };
            let w = &self.ctas[cta].wgs[g];
            let (i, e) = (w.issued, w.executed);
            if i.iter().any(|x| *x != i[0]) {
                return self.fail(
                    at,
                    format!("the warps of warpgroup {g} issued different numbers of wgmmas: {i:?}"),
                );
            }
            if e < i[0] {
                self.report(Policy::Warn, at, 3, || {
                    format!("{} wgmmas were never waited for", i[0] - e)
                })?;
            }
        }
        let at = At { pc, wi: w0, l: 0 };
        let mut total = 0;
        for g in self.warps[w0..w0 + self.warps_per_cta].chunks(4) {
            if g.iter().any(|w| w.maxnreg != g[0].maxnreg) {
                return self.fail(at, "the warps of a warpgroup executed different setmaxnreg");
            }
            total += g[0].maxnreg.last().copied().unwrap_or(0);
        }
        if total > 512 {
            return self.fail(at, format!("setmaxnreg asks for {total} registers per thread over all warpgroups, 512 exist"));
        }
        Ok(())
    }

    fn deadlock<T>(&self, head: &str) -> R<T> {
        let mut s = format!("{head}\n");
        for (wi, w) in self.warps.iter().enumerate() {
            let cta = &self.ctas[w.cta];
            for g in &w.groups {
                let what = match g.st {
                    St::Run => "runnable".to_string(),
                    St::Yield => "spinning".to_string(),
                    St::Warp(m) => format!("at a warp-synchronous instruction for lanes {m:08x}"),
                    St::Bar(id) => {
                        let b = &cta.bars[id as usize];
                        let n = if b.expected == u32::MAX {
                            self.nthreads
                        } else {
                            b.expected
                        };
                        format!("at named barrier {id}: {} of {n} threads arrived", b.count)
                    }
                    St::Cluster => {
                        let (n, of) = self.cluster_counts();
                        format!("at barrier.cluster: {n} of {of} threads arrived")
                    }
                    St::Wg(t) => format!(
                        "at wgmma.wait_group: needs {t} wgmmas of all 4 warps, issued {:?}",
                        cta.wgs[self.wg_of(wi).1].issued
                    ),
                    St::MBar(o, p) => {
                        let a = Loc { cta: w.cta, o }.addr();
                        match cta.mbars.iter().find(|b| b.o == o) {
                            Some(b) => format!(
                                "on mbarrier 0x{a:x} for parity {p}: phase {} (parity {}), pending arrivals {} of {}, tx bytes {}",
                                b.phase,
                                b.phase & 1,
                                b.pending,
                                b.count,
                                b.tx
                            ),
                            None => format!("on invalid mbarrier 0x{a:x}"),
                        }
                    }
                };
                let rank = if self.ctas.len() > 1 {
                    format!("CTA rank {} ", w.cta)
                } else {
                    String::new()
                };
                s += &format!(
                    "  {rank}warp {} lanes {:08x} line {}: {what}\n",
                    w.thread0 / 32,
                    g.mask,
                    self.line(g.pc)
                );
            }
        }
        Err(Box::new(SimError {
            line: 0,
            ctaid: self.ctas[0].ctaid,
            thread: None,
            msg: s,
        }))
    }

    /// The group of this warp to run next.
    fn poll(&mut self, wi: usize, soft: bool) -> Option<usize> {
        // merge lanes waiting at the same warp-synchronous instruction
        let w = &mut self.warps[wi];
        let mut i = 0;
        while i < w.groups.len() {
            if let St::Warp(m) = w.groups[i].st {
                let mut j = i + 1;
                while j < w.groups.len() {
                    if matches!(w.groups[j].st, St::Warp(_)) && w.groups[j].pc == w.groups[i].pc {
                        w.groups[i].mask |= w.groups[j].mask;
                        w.groups.swap_remove(j);
                    } else {
                        j += 1;
                    }
                }
                if m & w.alive & !w.groups[i].mask == 0 {
                    w.groups[i].st = St::Run;
                }
            }
            i += 1;
        }
        let cta = &self.ctas[w.cta];
        for g in &mut w.groups {
            match g.st {
                St::MBar(o, p)
                    if cta
                        .mbars
                        .iter()
                        .find(|b| b.o == o)
                        .is_none_or(|b| b.phase & 1 != p as u64) =>
                {
                    g.st = St::Run
                }
                St::Wg(t) if cta.wgs[w.thread0 / 128].issued.iter().all(|x| *x >= t) => {
                    g.st = St::Run
                }
                St::Yield if soft => g.st = St::Run,
                _ => {}
            }
        }
        let mut best: Option<usize> = None;
        for (i, g) in w.groups.iter().enumerate() {
            if g.st == St::Run
                && best.is_none_or(|b| {
                    if w.fair {
                        g.pc > w.groups[b].pc
                    } else {
                        g.pc < w.groups[b].pc
                    }
                })
            {
                best = Some(i);
            }
        }
        best
    }

    /// Runs a warp for a slice; whether it did anything. `soft`: spinning threads look again.
    fn run_warp(&mut self, wi: usize, budget: u32, soft: bool) -> R<bool> {
        let mut left = budget;
        let mut ran = false;
        while left > 0 {
            let Some(gi) = self.poll(wi, soft && !ran) else {
                self.warps[wi].fair = false;
                break;
            };
            ran = true;
            let (before, events) = (left, self.events);
            self.run_group(wi, gi, &mut left)?;
            if self.strict && self.events != events {
                // a warp of higher priority may have become runnable
                break;
            }
            if left == before {
                left -= 1;
            }
        }
        if left == 0 {
            // slice expired: let another group of this warp run next time
            let w = &mut self.warps[wi];
            w.fair = !w.fair && w.groups.len() > 1;
        }
        Ok(ran)
    }
}
