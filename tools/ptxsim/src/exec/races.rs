//! Accesses to shared memory that nothing orders: one of two warps writes, and no barrier, mbarrier or copy that the
//! other waited for comes in between. Found by vector clocks, whatever the order of execution.

use super::address::Loc;
use super::{At, Cluster, R};
use crate::launch::Check;

/// Bytes that are looked at together: the smallest elements that different warps may own side by side.
const GRANULE: usize = 2;

/// The last accesses to a shared memory.
pub struct Races {
    warps: usize,
    /// per granule: warp, its time, instruction
    writes: Vec<(u32, u32, u32)>,
    /// per granule and warp: its time
    reads: Vec<u32>,
    /// per granule: instruction of the last read
    read_at: Vec<u32>,
}

impl Races {
    /// Of `n` bytes, for all warps of a cluster.
    pub fn new(n: usize, warps: usize) -> Self {
        let granules = n.div_ceil(GRANULE);
        Self {
            warps,
            writes: vec![(0, 0, 0); granules],
            reads: vec![0; granules * warps],
            read_at: vec![0; granules],
        }
    }

    fn granules(o: usize, n: usize) -> std::ops::Range<usize> {
        o / GRANULE..(o + n).div_ceil(GRANULE)
    }
}

impl Cluster<'_> {
    /// A warp reads.
    pub(super) fn race_read(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        if let Some(races) = &mut self.ctas[p.cta].races {
            let now = self.warps[at.wi].clock.time(at.wi);
            for g in Races::granules(p.o, n) {
                races.reads[g * races.warps + at.wi] = now;
                races.read_at[g] = at.pc;
            }
        }
        self.race_read_together(at, p, n)
    }

    /// A warp reads with others, one of which will say for all when it is over.
    pub(super) fn race_read_together(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        let Some(races) = &self.ctas[p.cta].races else {
            return Ok(());
        };
        let clock = &self.warps[at.wi].clock;
        let mut other = None;
        for g in Races::granules(p.o, n) {
            let (wi, time, pc) = races.writes[g];
            if clock.time(wi as usize) < time {
                other = Some((wi, pc));
            }
        }
        self.race(at, p, "reads", other.map(|(wi, pc)| (wi, pc, "wrote")))
    }

    /// A warp, or a copy that it issued, writes.
    pub(super) fn race_write(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        let Some(races) = &mut self.ctas[p.cta].races else {
            return Ok(());
        };
        let clock = &self.warps[at.wi].clock;
        let now = clock.time(at.wi);
        let mut other = None;
        for g in Races::granules(p.o, n) {
            let (wi, time, pc) = races.writes[g];
            if clock.time(wi as usize) < time {
                other = Some((wi, pc, "wrote"));
            }
            let reads = &races.reads[g * races.warps..(g + 1) * races.warps];
            let late = reads.iter().enumerate();
            if let Some((wi, _)) = late.into_iter().find(|(wi, time)| clock.time(*wi) < **time) {
                other = Some((wi as u32, races.read_at[g], "read"));
            }
            races.writes[g] = (at.wi as u32, now, at.pc);
        }
        self.race(at, p, "writes", other)
    }

    fn race(&mut self, at: At, p: Loc, does: &str, other: Option<(u32, u32, &str)>) -> R<()> {
        let Some((wi, pc, did)) = other else {
            return Ok(());
        };
        let warp = self.warps[wi as usize].thread0 / 32;
        let (a, line) = (p.address(), self.line(pc));
        self.breach(
            Check::Race,
            at,
            format!(
                "race: {does} shared memory at 0x{a:x}, which warp {warp} {did} (line {line}), \
                 and nothing orders the two"
            ),
        )
    }
}
