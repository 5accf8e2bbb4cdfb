//! Named barriers, barrier.cluster, exits.

use super::order::Clock;
use super::warp::State;
use super::{At, Cluster, R};
use crate::alu::registers::lanes;
use crate::ir::S;

#[derive(Default, Clone)]
pub struct NamedBarrier {
    pub count: u32,
    /// none: all threads of the CTA
    pub expected: Option<u32>,
    /// warps and their lanes
    waiting: Vec<(usize, u32)>,
    /// instruction of the last arrival
    pc: u32,
    clock: Clock,
}

impl Cluster<'_> {
    /// An operand that must be the same in all lanes.
    fn uniform(&self, at: At, mask: u32, s: S) -> R<u32> {
        let v = self.reg(at, s);
        let mut differs = false;
        lanes(mask, |l| differs |= self.reg(At { l, ..at }, s) != v);
        match differs {
            true => self.fail(at, "an operand differs between the lanes of a warp"),
            false => Ok(v),
        }
    }

    /// Lanes arrive, together with their warp if `aligned`, and block if they `wait`. The first of them is `at`.
    pub(super) fn barrier(
        &mut self,
        at: At,
        mask: u32,
        (id, n): (S, Option<S>),
        (wait, aligned): (bool, bool),
    ) -> R<()> {
        let id = self.uniform(at, mask, id)? as usize;
        if id > 15 {
            return self.fail(at, format!("barrier {id} does not exist"));
        }
        let expected = match n {
            Some(s) => Some(self.uniform(at, mask, s)?),
            None => None,
        };
        if let Some(n) = expected
            && (n == 0 || n % 32 != 0)
        {
            return self.fail(at, format!("{n} threads are no multiple of 32"));
        }
        let cta = self.cta_of(at.wi);
        let b = &self.ctas[cta].barriers[id];
        if b.count > 0 && b.expected != expected {
            let (other, line) = (self.threads_of(b.expected), self.line(b.pc));
            let own = self.threads_of(expected);
            return self.fail(
                at,
                format!("barrier {id} is for {own} threads here and for {other} at line {line}"),
            );
        }
        self.arrive_at(at, mask, (id, expected), (wait, aligned))
    }

    pub(super) fn threads_of(&self, expected: Option<u32>) -> u32 {
        expected.unwrap_or(self.job.threads())
    }

    fn arrive_at(
        &mut self,
        at: At,
        mask: u32,
        (id, expected): (usize, Option<u32>),
        (wait, aligned): (bool, bool),
    ) -> R<()> {
        let cta = self.cta_of(at.wi);
        let threads = self.threads_of(expected);
        let exited = if expected.is_none() {
            self.ctas[cta].exited
        } else {
            0
        };
        let b = &mut self.ctas[cta].barriers[id];
        b.expected = expected;
        b.pc = at.pc;
        b.count += match (aligned, expected) {
            // A count is one of whole warps, and so is what arrives.
            (true, Some(_)) => 32,
            _ => mask.count_ones(),
        };
        let w = &mut self.warps[at.wi];
        b.clock.join(&w.clock);
        w.clock.tick(at.wi);
        if wait {
            b.waiting.push((at.wi, mask));
            self.warps[at.wi].wait(at.pc + 1, mask, State::Barrier(id));
        }
        let count = b.count + exited;
        if count > threads {
            return self.fail(at, format!("barrier {id}: {count} threads for {threads}"));
        }
        if count == threads {
            self.release(cta, id);
        }
        Ok(())
    }

    fn release(&mut self, cta: usize, id: usize) {
        let b = std::mem::take(&mut self.ctas[cta].barriers[id]);
        self.events += 1;
        for (wi, mask) in b.waiting {
            let w = &mut self.warps[wi];
            w.clock.join(&b.clock);
            for g in &mut w.groups {
                if g.state == State::Barrier(id) && g.mask & mask != 0 {
                    g.state = State::Run;
                }
            }
        }
    }

    /// Barriers of whole CTAs and of the cluster do not wait for exited threads.
    pub(super) fn exit(&mut self, at: At, mask: u32) -> R<()> {
        let cta = self.cta_of(at.wi);
        self.warps[at.wi].alive &= !mask;
        self.ctas[cta].exited += mask.count_ones();
        self.events += 1;
        let (exited, threads) = (self.ctas[cta].exited, self.job.threads());
        for id in 0..self.ctas[cta].barriers.len() {
            let b = &self.ctas[cta].barriers[id];
            if !b.waiting.is_empty() && b.expected.is_none() && b.count + exited >= threads {
                self.release(cta, id);
            }
        }
        self.cluster_check();
        if exited == threads {
            self.cta_ends(at, cta)?;
        }
        Ok(())
    }

    // ---- barrier.cluster ----------------------------------------------------------------------

    pub(super) fn cluster_arrive(&mut self, at: At, mask: u32, release: bool) -> R<()> {
        let w = &mut self.warps[at.wi];
        let twice = mask & (w.cluster_arrived | w.cluster_done);
        if twice != 0 {
            let l = twice.trailing_zeros() as usize;
            return self.fail(At { l, ..at }, "arrives twice without barrier.cluster.wait");
        }
        w.cluster_arrived |= mask;
        self.cluster_clock[0].join(&w.clock);
        w.clock.tick(at.wi);
        let cta = w.cta;
        if release {
            self.publish(cta);
        }
        self.cluster_check();
        Ok(())
    }

    /// The lanes that may pass.
    pub(super) fn cluster_wait(&mut self, at: At, mask: u32) -> R<u32> {
        let w = &mut self.warps[at.wi];
        let without = mask & !(w.cluster_arrived | w.cluster_done);
        if without != 0 {
            let l = without.trailing_zeros() as usize;
            return self.fail(At { l, ..at }, "waits without barrier.cluster.arrive");
        }
        let pass = mask & w.cluster_done;
        w.cluster_done &= !pass;
        if pass != 0 {
            w.clock.join(&self.cluster_clock[1]);
        }
        Ok(pass)
    }

    /// Completes the phase once every thread that has not exited arrived.
    fn cluster_check(&mut self) {
        let missing = self.warps.iter().any(|w| w.alive & !w.cluster_arrived != 0);
        if missing || self.warps.iter().all(|w| w.cluster_arrived == 0) {
            return;
        }
        self.events += 1;
        self.cluster_clock[1] = self.cluster_clock[0].clone();
        for w in &mut self.warps {
            w.cluster_done |= std::mem::take(&mut w.cluster_arrived);
            for g in &mut w.groups {
                if g.state == State::Cluster {
                    g.state = State::Run;
                }
            }
        }
    }

    /// Threads of the cluster that arrived, and that have not exited.
    pub(super) fn cluster_counts(&self) -> (u32, u32) {
        let count = |f: fn(&super::Warp) -> u32| self.warps.iter().map(|w| f(w).count_ones()).sum();
        (count(|w| w.cluster_arrived & w.alive), count(|w| w.alive))
    }
}
