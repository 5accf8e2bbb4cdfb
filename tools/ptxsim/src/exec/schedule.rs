//! Warp scheduling, and the end of a cluster.

use super::warp::{State, Warp};
use super::{At, Cluster, R};
use crate::launch::{Check, Mode, Schedule};

/// Instructions of a slice.
const SLICE: u32 = 2000;
/// Rounds in which only spinning threads looked again.
const SPINS: u64 = 20_000;

/// Progress since something last happened that may unblock a thread.
#[derive(Default)]
struct Progress {
    events: u64,
    /// rounds in which warps ran
    dry: u64,
    /// rounds in which only spinning threads did
    soft: u64,
}

impl Cluster<'_> {
    pub fn run(&mut self) -> R<()> {
        let mut order: Vec<usize> = (0..self.warps.len()).collect();
        if self.job.launch.schedule == Schedule::HighFirst {
            order.reverse();
        }
        let mut progress = Progress::default();
        while !self.done() {
            if self.random_order() {
                self.shuffle(&mut order);
            }
            let ran = self.round(&order, &progress)?;
            if self.events != progress.events {
                progress = Progress {
                    events: self.events,
                    ..Progress::default()
                };
            }
            match ran {
                true => self.check_loops(&mut progress)?,
                false => self.unblock(&order, &mut progress)?,
            }
        }
        self.finish()
    }

    fn done(&self) -> bool {
        self.ctas.iter().all(|c| c.exited == self.job.threads())
    }

    fn random_order(&self) -> bool {
        let launch = self.job.launch;
        let random = matches!(launch.mode, Mode::Random(_));
        matches!(launch.schedule, Schedule::Random(_))
            || random && launch.schedule == Schedule::RoundRobin
    }

    /// One warp always comes first.
    pub(super) fn strict(&self) -> bool {
        matches!(
            self.job.launch.schedule,
            Schedule::LowFirst | Schedule::HighFirst
        )
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for i in (1..order.len()).rev() {
            let j = self.random() as usize % (i + 1);
            order.swap(i, j);
        }
    }

    /// Whether a warp ran.
    fn round(&mut self, order: &[usize], progress: &Progress) -> R<bool> {
        let mut ran = false;
        for &wi in order {
            let slice = match self.random_order() {
                true => 1 + (self.random() % 300) as u32,
                false => SLICE,
            };
            ran |= self.run_warp(wi, slice, false)?;
            // Strict priority, but nobody starves behind an endless spin.
            if ran && self.strict() && progress.dry % 64 != 63 {
                break;
            }
        }
        Ok(ran)
    }

    fn check_loops(&mut self, progress: &mut Progress) -> R<()> {
        progress.dry += 1;
        if !progress.dry.is_multiple_of(1000) || self.land_one(true)? {
            return Ok(());
        }
        let executed: u64 = self.warps.iter().map(|w| w.instructions).sum();
        if executed / 32 > self.job.launch.max_warp_instructions {
            return self.deadlock("the limit of instructions is reached (an endless loop?)");
        }
        Ok(())
    }

    /// Everything is blocked or spins.
    fn unblock(&mut self, order: &[usize], progress: &mut Progress) -> R<()> {
        // Complete a load that somebody waits for,
        if self.land_one(false)? {
            return Ok(());
        }
        // let spinning threads look again,
        let mut soft = false;
        for &wi in order {
            soft |= self.run_warp(wi, SLICE, true)?;
        }
        progress.soft += soft as u64;
        if progress.soft > SPINS {
            return self.deadlock("deadlock: all threads that are left spin");
        }
        if soft && !progress.soft.is_multiple_of(4) {
            return Ok(());
        }
        // and finally complete any load.
        if self.land_one(true)? || soft || self.done() {
            return Ok(());
        }
        self.deadlock("deadlock: no thread can go on")
    }

    /// The warps that are left may go on to something that was not their turn yet.
    fn run_warp(&mut self, wi: usize, slice: u32, soft: bool) -> R<bool> {
        let mut left = slice;
        let mut ran = false;
        while left > 0 {
            let Some(group) = self.poll(wi, soft && !ran) else {
                self.warps[wi].fair = false;
                break;
            };
            ran = true;
            let (before, events) = (left, self.events);
            match self.job.launch.count {
                None => self.run_group::<false>(wi, group, &mut left)?,
                Some(_) => self.run_group::<true>(wi, group, &mut left)?,
            }
            if self.strict() && self.events != events {
                // A warp of higher priority may have become runnable.
                break;
            }
            if left == before {
                left -= 1;
            }
        }
        if left == 0 {
            // Let another group of this warp run next time.
            let w = &mut self.warps[wi];
            w.fair = !w.fair && w.groups.len() > 1;
        }
        Ok(ran)
    }

    /// The group of a warp to run next. `soft`: spinning threads may look again.
    fn poll(&mut self, wi: usize, soft: bool) -> Option<usize> {
        let w = &mut self.warps[wi];
        gather_lanes(w);
        let cta = &self.ctas[w.cta];
        let warpgroup = w.warpgroup();
        for g in &mut w.groups {
            let ready = match g.state {
                State::Mbarrier(o, parity) => {
                    let b = cta.mbarriers.iter().find(|b| b.o == o);
                    b.is_none_or(|b| b.phase & 1 != parity as u64)
                }
                State::Wgmma(n) => cta.warpgroups[warpgroup].issued.iter().all(|i| *i >= n),
                State::Yield => soft,
                _ => false,
            };
            if ready {
                g.state = State::Run;
            }
        }
        let runnable = w
            .groups
            .iter()
            .enumerate()
            .filter(|(_, g)| g.state == State::Run);
        let next = match w.fair {
            true => runnable.max_by_key(|(_, g)| g.pc),
            false => runnable.min_by_key(|(_, g)| g.pc),
        };
        next.map(|(i, _)| i)
    }

    fn finish(&mut self) -> R<()> {
        if let Some(p) = self.pending.first() {
            let at = p.at;
            self.breach(
                Check::Unfinished,
                at,
                "the CTA ends before this copy is complete",
            )?;
        }
        while self.land_one(true)? {}
        for wi in 0..self.warps.len() {
            for l in 0..32 {
                self.finish_stores(At { pc: 0, wi, l })?;
            }
        }
        for cta in 0..self.ctas.len() {
            self.finish_warpgroups(cta)?;
        }
        self.stats.instructions = self.warps.iter().map(|w| w.instructions).sum();
        let counts = std::mem::take(&mut self.counts);
        self.stats.counts = self.job.launch.count.as_ref().map(|_| counts);
        Ok(())
    }

    /// What the warps of each warpgroup must have done alike.
    fn finish_warpgroups(&mut self, cta: usize) -> R<()> {
        let pc = self.code().insts.len() as u32 - 1;
        let first = cta * self.job.warps();
        for g in 0..self.ctas[cta].warpgroups.len() {
            let at = At {
                pc,
                wi: first + g * 4,
                l: 0,
            };
            let w = &self.ctas[cta].warpgroups[g];
            let (issued, executed) = (w.issued, w.executed);
            if issued.iter().any(|n| *n != issued[0]) {
                return self.fail(
                    at,
                    format!(
                        "the warps of warpgroup {g} issued different numbers of wgmmas: {issued:?}"
                    ),
                );
            }
            if executed < issued[0] {
                let n = issued[0] - executed;
                self.breach(
                    Check::Unfinished,
                    at,
                    format!("{n} wgmmas were never waited for"),
                )?;
            }
        }
        self.check_register_counts(At {
            pc,
            wi: first,
            l: 0,
        })
    }

    /// setmaxnreg, by all warps of each warpgroup alike.
    fn check_register_counts(&self, at: At) -> R<()> {
        let warps = &self.warps[at.wi..at.wi + self.job.warps()];
        let mut total = 0;
        for g in warps.chunks(4) {
            if g.iter().any(|w| w.max_registers != g[0].max_registers) {
                return self.fail(at, "the warps of a warpgroup executed different setmaxnreg");
            }
            total += g[0].max_registers.last().copied().unwrap_or(0);
        }
        if total > 512 {
            return self.fail(
                at,
                format!(
                    "setmaxnreg asks for {total} registers of each thread of all \
                 warpgroups together, 512 exist"
                ),
            );
        }
        Ok(())
    }
}

/// Merges lanes that wait at the same instruction for each other.
fn gather_lanes(w: &mut Warp) {
    let mut i = 0;
    while i < w.groups.len() {
        if let State::Lanes(mask) = w.groups[i].state {
            let mut j = i + 1;
            while j < w.groups.len() {
                if w.groups[j].state == w.groups[i].state && w.groups[j].pc == w.groups[i].pc {
                    w.groups[i].mask |= w.groups[j].mask;
                    w.groups.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            if mask & w.alive & !w.groups[i].mask == 0 {
                w.groups[i].state = State::Run;
            }
        }
        i += 1;
    }
}
