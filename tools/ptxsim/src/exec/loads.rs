//! Bulk and tensor copies into shared memory, which complete on an mbarrier.

use super::address::{Loc, START, classify};
use super::copies::Copy;
use super::order::Clock;
use super::shared::Byte;
use super::warp::State;
use super::{At, Cluster, R, try_lanes};
use crate::ir::*;
use crate::launch::{Arg, Mode, Schedule};
use crate::mem::PARAM_BASE;
use crate::tensor_map::Chunk;

/// Where the data come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// cp.async.mbarrier.arrive: the copies it waits for
    Copies(Vec<Copy>),
    Tensor {
        map: usize,
        coords: Vec<i32>,
    },
    Global(u64),
}

/// An outstanding operation: `n` bytes for `shared`.
pub struct Pending {
    pub at: At,
    mbarrier: Loc,
    shared: Loc,
    n: usize,
    source: Source,
    /// of the issuing warp at issue
    clock: Clock,
}

impl Pending {
    pub fn writes(&self, p: Loc) -> bool {
        if let Source::Copies(copies) = &self.source {
            return copies.iter().any(|c| c.writes(p));
        }
        self.shared.cta == p.cta && (self.shared.o..self.shared.o + self.n).contains(&p.o)
    }
}

impl Cluster<'_> {
    pub(super) fn bulk_load(&mut self, at: At, mask: u32, s: &BulkLoad) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let (source, n) = self.source(at, &s.global)?;
            let shared = self.locate(at, s.space, self.address(at, &s.shared), n)?;
            self.check_bulk(at, &s.global, shared, n)?;
            let mbarrier = self.locate(at, s.space, self.address(at, &s.mbarrier), 8)?;
            self.stats.bulk_loads += 1;
            self.stats.bulk_bytes += n as u64;
            match s.multicast {
                None => {
                    if shared.cta != mbarrier.cta {
                        let (x, y) = (shared.cta, mbarrier.cta);
                        return self.fail(
                            at,
                            format!(
                                "the destination lies in CTA rank {x}, the mbarrier in CTA rank {y}"
                            ),
                        );
                    }
                    self.check_published(at, mbarrier)?;
                    self.issue(at, mbarrier, shared, n, source)
                }
                Some(ctas) => self.multicast(
                    at,
                    self.reg(at, ctas) & 0xffff,
                    (mbarrier, shared),
                    n,
                    &source,
                ),
            }
        })
    }

    /// To the same offsets of several CTAs.
    fn multicast(
        &mut self,
        at: At,
        ctas: u32,
        (mbarrier, shared): (Loc, Loc),
        n: usize,
        source: &Source,
    ) -> R<()> {
        if ctas == 0 || ctas >> self.ctas.len() != 0 {
            let size = self.ctas.len();
            return self.fail(
                at,
                format!("multicast mask 0x{ctas:x} in a cluster of {size} CTAs"),
            );
        }
        for cta in (0..self.ctas.len()).filter(|c| ctas >> c & 1 == 1) {
            if cta != self.cta_of(at.wi) {
                self.touch(at, cta)?;
            }
            let (mbarrier, shared) = (Loc { cta, ..mbarrier }, Loc { cta, ..shared });
            self.check_published(at, mbarrier)?;
            self.issue(at, mbarrier, shared, n, source.clone())?;
        }
        Ok(())
    }

    /// The global side of a copy and the number of bytes.
    fn source(&self, at: At, bulk: &Bulk) -> R<(Source, usize)> {
        match bulk {
            Bulk::Linear { address, bytes } => Ok((
                Source::Global(self.address(at, address)),
                self.reg(at, *bytes) as usize,
            )),
            Bulk::Tensor { map, coords } => {
                let (map, coords) = self.tile(at, map, coords)?;
                let n = self.job.maps[map].box_bytes();
                Ok((Source::Tensor { map, coords }, n))
            }
        }
    }

    /// The tensor map and the coordinates of a tensor copy.
    pub(super) fn tile(&self, at: At, map: &Addr, coords: &[S]) -> R<(usize, Vec<i32>)> {
        let map = self.map_at(at, self.address(at, map), coords.len())?;
        let coords = coords.iter().map(|c| self.reg(at, *c) as i32).collect();
        Ok((map, coords))
    }

    fn map_at(&self, at: At, a: u64, rank: usize) -> R<usize> {
        let bytes = match classify(a) {
            Space::Param => {
                let o = (a - PARAM_BASE) as usize;
                self.job.params.get(o..o + 16).map(|b| b.to_vec())
            }
            _ => self.job.global.ptr(a, 16).map(|p| {
                // SAFETY: 16 bytes of a buffer.
                unsafe { std::slice::from_raw_parts(p, 16) }.to_vec()
            }),
        };
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
        let map = bytes.filter(|b| word(&b[..8]) == Arg::MAP_MAGIC);
        let map = map.map(|b| word(&b[8..]) as usize);
        let Some(map) = map.filter(|m| *m < self.job.maps.len() && a.is_multiple_of(64)) else {
            return self.fail(
                at,
                format!("there is no tensor map at 0x{a:x}, or it is not aligned to 64 bytes"),
            );
        };
        let own = self.job.maps[map].dims.len();
        if own != rank {
            return self.fail(
                at,
                format!("a tensor map of rank {own} in a copy of rank {rank}"),
            );
        }
        Ok(map)
    }

    /// What both directions ask of addresses and sizes.
    pub(super) fn check_bulk(&self, at: At, bulk: &Bulk, shared: Loc, n: usize) -> R<()> {
        let a = shared.address();
        match bulk {
            Bulk::Tensor { .. } if a.is_multiple_of(128) => Ok(()),
            Bulk::Tensor { .. } => self.fail(
                at,
                format!("shared address 0x{a:x} is not a multiple of 128"),
            ),
            Bulk::Linear { address, .. } => {
                let global = self.address(at, address);
                if (a | global | n as u64).is_multiple_of(16) {
                    return Ok(());
                }
                self.fail(
                    at,
                    format!("0x{a:x}, 0x{global:x} and {n} are not all multiples of 16"),
                )
            }
        }
    }

    pub(super) fn issue(
        &mut self,
        at: At,
        mbarrier: Loc,
        shared: Loc,
        n: usize,
        source: Source,
    ) -> R<()> {
        let p = Pending {
            at,
            mbarrier,
            shared,
            n,
            source,
            clock: self.warps[at.wi].clock.clone(),
        };
        if n > 0 {
            self.check_write(at, shared, n)?;
            self.race_write(at, shared, n)?;
        }
        self.warps[at.wi].clock.tick(at.wi);
        if self.acts_now() {
            return self.land(&p);
        }
        self.poison(p.shared, p.n);
        self.pending.push(p);
        Ok(())
    }

    fn land(&mut self, p: &Pending) -> R<()> {
        self.events += 1;
        self.mbarrier(p.at, p.mbarrier)?.arrived.join(&p.clock);
        match &p.source {
            Source::Copies(copies) => {
                self.land_copies(p.at, copies)?;
                return self.arrive(p.at, p.mbarrier, 1);
            }
            Source::Tensor { map, coords } => self.land_tile(p, *map, coords)?,
            Source::Global(a) => {
                let q = self.global(p.at, *a, p.n)?;
                // SAFETY: as many bytes of a buffer.
                let data = unsafe { std::slice::from_raw_parts(q, p.n) };
                self.ctas[p.shared.cta].shared.store(p.shared.o, data);
            }
        }
        self.expect(p.at, p.mbarrier, -(p.n as i64))
    }

    fn land_tile(&mut self, p: &Pending, map: usize, coords: &[i32]) -> R<()> {
        let map = &self.job.maps[map];
        let global = self.job.global;
        let shared = &mut self.ctas[p.shared.cta].shared;
        let end = shared.bytes.len();
        let mut bad = None;
        // The swizzle acts on address bits, so the walk starts at an address.
        map.walk(p.shared.o as u64 + START, coords, |c: Chunk| {
            let o = (c.shared - START) as usize;
            let mut data = [0; 16];
            let inside = c.inside.clone();
            if let (Some(a), false) = (c.global, inside.is_empty()) {
                match global.ptr(a.wrapping_add(inside.start as u64), inside.len()) {
                    // SAFETY: as many bytes of a buffer.
                    Some(q) => unsafe {
                        q.copy_to_nonoverlapping(data[inside.clone()].as_mut_ptr(), inside.len());
                    },
                    None => bad = Some(a),
                }
            }
            if o + 16 <= end {
                shared.store(o, &data);
            } else {
                bad = Some(c.shared);
            }
        });
        // Chunks that the swizzle moved beyond the tile's own bytes leave holes: they are as undefined as before.
        match bad {
            Some(a) => self.fail(p.at, format!("the tile touches 0x{a:x}, out of bounds")),
            None => {
                let shared = &mut self.ctas[p.shared.cta].shared;
                shared.replace(p.shared.o, p.n, Byte::InFlight, Byte::Nothing);
                Ok(())
            }
        }
    }

    /// Completes one outstanding load that is waited for, or (`any`) the oldest one.
    pub(super) fn land_one(&mut self, any: bool) -> R<bool> {
        let waited = |p: &Pending| {
            let warps = self.warps.iter().filter(|w| w.cta == p.mbarrier.cta);
            let mut groups = warps.flat_map(|w| &w.groups);
            groups.any(|g| matches!(g.state, State::Mbarrier(o, _) if o == p.mbarrier.o))
        };
        let candidates: Vec<_> = (0..self.pending.len())
            .filter(|i| waited(&self.pending[*i]))
            .collect();
        let launch = self.job.launch;
        let random = matches!(launch.schedule, Schedule::Random(_))
            || matches!(launch.mode, Mode::Random(_));
        let i = match candidates[..] {
            [] if !any || self.pending.is_empty() => return Ok(false),
            [] => 0,
            _ if random => candidates[self.random() as usize % candidates.len()],
            [first, ..] => first,
        };
        let p = self.pending.remove(i);
        self.land(&p)?;
        Ok(true)
    }

    /// The last thread of a CTA exits: nothing may be under way to its shared memory.
    pub(super) fn cta_ends(&mut self, at: At, cta: usize) -> R<()> {
        let late = self
            .pending
            .iter()
            .find(|p| p.shared.cta == cta && self.cta_of(p.at.wi) != cta);
        if let Some(p) = late {
            let (rank, line) = (self.cta_of(p.at.wi), self.line(p.at.pc));
            return self.fail(
                at,
                format!(
                    "CTA rank {cta} exits while a copy of CTA rank {rank} (line {line}) \
                 into its shared memory is outstanding (no barrier.cluster at the \
                 end?)"
                ),
            );
        }
        if self.ctas.len() > 1 {
            self.check_untouched(at, cta)
        } else {
            Ok(())
        }
    }
}
