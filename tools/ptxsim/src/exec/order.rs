//! Happens-before between the warps of a cluster: may a CTA whose shared memory is accessed not have started, or have
//! exited? Vector clocks, one component per warp, flow along mbarriers, named barriers and barrier.cluster, so that a
//! missing barrier is found whatever the schedule. In a cluster of one CTA the clocks are empty.
use super::*;

#[derive(Debug, Clone, Default)]
pub struct Clock(Vec<u32>);

impl Clock {
    /// Of warp `wi` among `n`, at its start.
    pub fn start(wi: usize, n: usize) -> Clock {
        let mut c = vec![0; n];
        if let Some(x) = c.get_mut(wi) {
            *x = 1;
        }
        Clock(c)
    }

    pub fn join(&mut self, o: &Clock) {
        if self.0.len() < o.0.len() {
            self.0.resize(o.0.len(), 0);
        }
        for (x, y) in self.0.iter_mut().zip(&o.0) {
            *x = (*x).max(*y);
        }
    }
}

impl<'a> Cluster<'a> {
    /// An access to the shared memory of another CTA.
    pub(super) fn touch(&mut self, at: At, cta: usize) -> R<()> {
        if self.ctas[cta].exited == self.nthreads {
            return self.fail(at, format!("accesses shared memory of CTA rank {cta} after that CTA exited (no barrier.cluster at the end?)"));
        }
        let n = self.warps_per_cta;
        let clock = &mut self.warps[at.wi].clock.0;
        clock[at.wi] += 1;
        let (now, known) = (
            clock[at.wi],
            clock[cta * n..(cta + 1) * n].iter().any(|t| *t > 0),
        );
        self.warps[at.wi].touched[cta] = (now, at.pc);
        if !known {
            self.report(self.run.cfg.lifetime, at, 5, || {
                format!("accesses shared memory of CTA rank {cta}, which may not have started yet (no barrier.cluster at the beginning?)")
            })?;
        }
        Ok(())
    }

    /// The last thread of a CTA exits: all accesses of others to its shared memory must be known to be over.
    pub(super) fn check_untouched(&mut self, at: At, cta: usize) -> R<()> {
        let n = self.warps_per_cta;
        let mut known = Clock::default();
        for w in &self.warps[cta * n..(cta + 1) * n] {
            known.join(&w.clock);
        }
        let late = self
            .warps
            .iter()
            .enumerate()
            .find(|(wi, w)| w.cta != cta && w.touched[cta].0 > known.0[*wi]);
        let Some((_, w)) = late else { return Ok(()) };
        let (rank, line) = (w.cta, self.line(w.touched[cta].1));
        self.report(self.run.cfg.lifetime, at, 6, || {
            format!("CTA rank {cta} exits, but nothing orders the access of CTA rank {rank} (line {line}) to its shared memory before that (no barrier.cluster at the end?)")
        })
    }
}
