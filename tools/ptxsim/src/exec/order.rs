//! Happens-before between the warps of a cluster: may a CTA whose shared memory is accessed not have started, or have
//! exited? Vector clocks, one component per warp, flow along mbarriers, named barriers and barrier.cluster, so that a
//! missing barrier is found whatever the schedule. In a cluster of one CTA the clocks are empty unless races are looked
//! for.

use super::{At, Cluster, R};
use crate::launch::Check;

#[derive(Debug, Clone, Default)]
pub struct Clock(Vec<u32>);

impl Clock {
    /// Of warp `wi` among `n`, at its start.
    pub fn start(wi: usize, n: usize) -> Self {
        let mut times = vec![0; n];
        if let Some(own) = times.get_mut(wi) {
            *own = 1;
        }
        Self(times)
    }

    /// What is known of the time of a warp.
    pub fn time(&self, wi: usize) -> u32 {
        self.0.get(wi).copied().unwrap_or(0)
    }

    /// What the warp does from now on comes after what it let others know so far.
    pub fn tick(&mut self, wi: usize) {
        if let Some(own) = self.0.get_mut(wi) {
            *own += 1;
        }
    }

    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (x, y) in self.0.iter_mut().zip(&other.0) {
            *x = (*x).max(*y);
        }
    }
}

impl Cluster<'_> {
    /// An access to the shared memory of another CTA.
    pub(super) fn touch(&mut self, at: At, cta: usize) -> R<()> {
        if self.ctas[cta].exited == self.job.threads() {
            return self.fail(
                at,
                format!(
                    "accesses shared memory of CTA rank {cta} after that CTA exited (no \
                 barrier.cluster at the end?)"
                ),
            );
        }
        let n = self.job.warps();
        let clock = &mut self.warps[at.wi].clock.0;
        clock[at.wi] += 1;
        let (now, known) = (
            clock[at.wi],
            clock[cta * n..(cta + 1) * n].iter().any(|t| *t > 0),
        );
        self.warps[at.wi].touched[cta] = (now, at.pc);
        if known {
            return Ok(());
        }
        self.breach(
            Check::Lifetime,
            at,
            format!(
                "accesses shared memory of CTA rank {cta}, which may not have started \
                 yet (no barrier.cluster at the beginning?)"
            ),
        )
    }

    /// The last thread of a CTA exits: all accesses of others to its shared memory must be known to be over.
    pub(super) fn check_untouched(&mut self, at: At, cta: usize) -> R<()> {
        let n = self.job.warps();
        let mut known = Clock::default();
        for w in &self.warps[cta * n..(cta + 1) * n] {
            known.join(&w.clock);
        }
        let mut others = self.warps.iter().enumerate();
        let late = others.find(|(wi, w)| w.cta != cta && w.touched[cta].0 > known.0[*wi]);
        let Some((_, w)) = late else { return Ok(()) };
        let (rank, line) = (w.cta, self.line(w.touched[cta].1));
        self.breach(
            Check::Lifetime,
            at,
            format!(
                "CTA rank {cta} exits, but nothing orders the access of CTA rank \
                 {rank} (line {line}) to its shared memory before that (no \
                 barrier.cluster at the end?)"
            ),
        )
    }
}
