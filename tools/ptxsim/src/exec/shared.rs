//! Shared memory, and what is known of each of its bytes.

use super::address::Loc;
use super::{At, Cluster, R};
use crate::launch::Check;

/// What a byte holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Byte {
    /// what no one wrote
    Nothing,
    Data,
    /// poison, until an outstanding copy lands
    InFlight,
    Mbarrier,
}

/// Bytes of which one fence and one asynchronous reader is known.
pub const GRANULE: usize = 16;

pub struct Shared {
    pub bytes: Vec<u8>,
    holds: Vec<Byte>,
    /// granules written through the generic proxy since the last proxy fence
    unfenced: Vec<bool>,
    /// those that this CTA has to fence, with the CTA in which they are
    to_fence: Vec<(usize, usize)>,
    /// unfinished wgmmas and bulk stores that read a granule
    readers: Vec<u16>,
}

impl Shared {
    pub fn new(n: usize) -> Self {
        let granules = n.div_ceil(GRANULE);
        Self {
            bytes: vec![0xff; n],
            holds: vec![Byte::Nothing; n],
            unfenced: vec![false; granules],
            to_fence: vec![],
            readers: vec![0; granules],
        }
    }

    fn granules(o: usize, n: usize) -> std::ops::Range<usize> {
        o / GRANULE..(o + n).div_ceil(GRANULE)
    }

    /// `N` words, if they are data of this memory at a multiple of their length.
    #[inline(always)]
    pub fn words<const N: usize>(&self, o: usize) -> Option<[u32; N]> {
        let n = 4 * N;
        let held = self.holds.get(o..o + n)?;
        if !o.is_multiple_of(n) || held.iter().any(|h| *h != Byte::Data) {
            return None;
        }
        let bytes = &self.bytes[o..o + n];
        Some(std::array::from_fn(|i| {
            let b = &bytes[4 * i..4 * i + 4];
            u32::from_le_bytes([b[0], b[1], b[2], b[3]])
        }))
    }

    /// What the first byte holds that is not data.
    fn not_data(&self, o: usize, n: usize) -> Option<(usize, Byte)> {
        let held = &self.holds[o..o + n];
        let i = held.iter().position(|h| *h != Byte::Data)?;
        Some((o + i, held[i]))
    }

    pub fn mark(&mut self, o: usize, n: usize, as_: Byte) {
        self.holds[o..o + n].fill(as_);
    }

    /// What bytes of one kind become.
    pub fn replace(&mut self, o: usize, n: usize, from: Byte, to: Byte) {
        for held in &mut self.holds[o..o + n] {
            if *held == from {
                *held = to;
            }
        }
    }

    pub fn store(&mut self, o: usize, data: &[u8]) {
        self.bytes[o..o + data.len()].copy_from_slice(data);
        self.mark(o, data.len(), Byte::Data);
    }

    /// An operation starts (or no longer needs) to read.
    pub fn add_reader(&mut self, o: usize, n: usize, start: bool) {
        for g in Self::granules(o, n) {
            let readers = &mut self.readers[g];
            *readers = if start { *readers + 1 } else { *readers - 1 };
        }
    }
}

impl Cluster<'_> {
    /// Checks shared memory that an instruction reads.
    #[inline(always)]
    pub(super) fn check_read(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        match self.ctas[p.cta].shared.not_data(p.o, n) {
            None => Ok(()),
            Some((o, byte)) => self.bad_read(at, Loc { o, ..p }, byte),
        }
    }

    #[cold]
    fn bad_read(&mut self, at: At, p: Loc, byte: Byte) -> R<()> {
        let a = p.address();
        match byte {
            Byte::Nothing => self.breach(
                Check::Uninitialised,
                at,
                format!("reads shared memory at 0x{a:x}, which is uninitialised"),
            ),
            Byte::Mbarrier => self.fail(at, format!("reads the mbarrier at 0x{a:x} as data")),
            _ => {
                let writer = self.writer(p);
                self.breach(
                    Check::InFlight,
                    at,
                    format!("reads shared memory at 0x{a:x} while {writer} is in flight to it"),
                )
            }
        }
    }

    /// Checks shared memory that is about to be written.
    #[inline(always)]
    pub(super) fn check_write(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        let shared = &self.ctas[p.cta].shared;
        let held = &shared.holds[p.o..p.o + n];
        let unsafe_byte = |h: &Byte| matches!(h, Byte::InFlight | Byte::Mbarrier);
        let read = shared.readers[Shared::granules(p.o, n)]
            .iter()
            .position(|r| *r > 0);
        if let Some(i) = held.iter().position(unsafe_byte) {
            let byte = held[i];
            return self.bad_write(at, Loc { o: p.o + i, ..p }, byte);
        }
        match read {
            None => Ok(()),
            Some(i) => {
                let o = (p.o / GRANULE + i) * GRANULE;
                self.bad_write(at, Loc { o, ..p }, Byte::Data)
            }
        }
    }

    #[cold]
    fn bad_write(&mut self, at: At, p: Loc, byte: Byte) -> R<()> {
        let a = p.address();
        let other = match byte {
            Byte::Mbarrier => return self.fail(at, format!("overwrites the mbarrier at 0x{a:x}")),
            Byte::InFlight => format!("{} is in flight to it", self.writer(p)),
            _ => format!("{} may still read it", self.reader(p)),
        };
        self.breach(
            Check::InFlight,
            at,
            format!("writes shared memory at 0x{a:x} while {other}"),
        )
    }

    /// The unfinished operation that writes a byte.
    fn writer(&self, p: Loc) -> String {
        let bulk = self.pending.iter().find(|q| q.writes(p)).map(|q| q.at.pc);
        let copies = self.warps.iter().flat_map(|w| &w.copies);
        let pc = bulk.or_else(|| copies.into_iter().find_map(|c| c.writer(p)));
        let line = pc.map_or(0, |pc| self.line(pc));
        format!("the copy of line {line}")
    }

    /// The unfinished operation that reads a granule.
    fn reader(&self, p: Loc) -> String {
        let groups = &self.ctas[p.cta].warpgroups;
        if let Some(pc) = groups.iter().find_map(|g| g.reader(p.o)) {
            return format!("the wgmma of line {}", self.line(pc));
        }
        let stores = self.warps.iter().flat_map(|w| &w.stores);
        let pc = stores.into_iter().find_map(|s| s.reader(p));
        format!("the store of line {}", pc.map_or(0, |pc| self.line(pc)))
    }

    /// A store of a thread of the CTA `writer`, through the generic proxy.
    pub(super) fn store_generic(&mut self, p: Loc, data: &[u8], writer: usize) {
        self.ctas[p.cta].shared.store(p.o, data);
        for g in Shared::granules(p.o, data.len()) {
            if !std::mem::replace(&mut self.ctas[p.cta].shared.unfenced[g], true) {
                // A fence on either side will do.
                self.ctas[p.cta].shared.to_fence.push((p.cta, g));
                if writer != p.cta {
                    self.ctas[writer].shared.to_fence.push((p.cta, g));
                }
            }
        }
    }

    /// Destination of an outstanding copy: neither the old nor the new contents may be read.
    pub(super) fn poison(&mut self, p: Loc, n: usize) {
        let shared = &mut self.ctas[p.cta].shared;
        shared.bytes[p.o..p.o + n].fill(0xff);
        shared.mark(p.o, n, Byte::InFlight);
    }

    /// fence.proxy.async
    pub(super) fn fence_proxy(&mut self, cta: usize) {
        for (c, g) in std::mem::take(&mut self.ctas[cta].shared.to_fence) {
            self.ctas[c].shared.unfenced[g] = false;
        }
    }

    /// Checks shared memory that the asynchronous proxy reads.
    pub(super) fn check_async_read(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        self.check_read(at, p, n)?;
        let shared = &self.ctas[p.cta].shared;
        if !shared.unfenced[Shared::granules(p.o, n)].contains(&true) {
            return Ok(());
        }
        let a = p.address();
        self.breach(
            Check::Proxy,
            at,
            format!(
                "reads shared memory at 0x{a:x} asynchronously, which ordinary stores \
                 wrote, with no fence.proxy.async since"
            ),
        )
    }
}
