//! cp.async: copies of 4, 8 or 16 bytes by each thread.

use super::copies::Copy;
use super::loads::Source;
use super::{At, Cluster, R, try_lanes};
use crate::alu::registers::lanes;
use crate::ir::*;

impl Cluster<'_> {
    pub(super) fn cp_async(&mut self, at: At, mask: u32, s: &CpAsync) -> R<()> {
        let ignored = s
            .ignore
            .map_or(0, |p| self.warps[at.wi].registers.predicate(p));
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let given = s.source_bytes.map_or(s.bytes, |n| self.reg(at, n) as usize);
            let read = if ignored >> l & 1 == 1 {
                0
            } else {
                given.min(s.bytes)
            };
            let shared = self.locate(at, Space::Shared, self.address(at, &s.shared), s.bytes)?;
            let global = self.address(at, &s.global);
            let n = s.bytes;
            if !shared.o.is_multiple_of(n) || read > 0 && !global.is_multiple_of(n as u64) {
                return self.fail(at, format!("addresses are not aligned to {n} bytes"));
            }
            self.check_write(at, shared, n)?;
            self.race_write(at, shared, n)?;
            let copy = Copy {
                pc: at.pc,
                shared,
                global,
                read,
                bytes: n,
            };
            if self.acts_now() {
                return self.land_copy(at, &copy);
            }
            self.poison(shared, n);
            self.warps[at.wi].copies[l].open.push(copy);
            Ok(())
        })
    }

    pub(super) fn cp_commit(&mut self, wi: usize, mask: u32) {
        lanes(mask, |l| {
            let copies = &mut self.warps[wi].copies[l];
            let group = std::mem::take(&mut copies.open);
            copies.groups.push_back(group);
        });
    }

    pub(super) fn cp_wait(&mut self, at: At, mask: u32, pending: usize) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            while self.warps[at.wi].copies[l].groups.len() > pending {
                let group = self.warps[at.wi].copies[l].groups.pop_front();
                for copy in group.into_iter().flatten() {
                    self.land_copy(At { pc: copy.pc, ..at }, &copy)?;
                }
            }
            Ok(())
        })
    }

    /// An arrival once all earlier copies of the thread are complete.
    pub(super) fn cp_arrive(&mut self, at: At, mask: u32, mbarrier: &Addr, noinc: bool) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let p = self.locate(at, Space::Shared, self.address(at, mbarrier), 8)?;
            let own = &mut self.warps[at.wi].copies[l];
            let mut copies: Vec<Copy> = own.groups.drain(..).flatten().collect();
            copies.append(&mut own.open);
            if !noinc {
                self.mbarrier(at, p)?.pending += 1;
            }
            self.issue(at, p, p, 0, Source::Copies(copies))
        })
    }

    pub(super) fn land_copies(&mut self, at: At, copies: &[Copy]) -> R<()> {
        copies
            .iter()
            .try_for_each(|c| self.land_copy(At { pc: c.pc, ..at }, c))
    }

    fn land_copy(&mut self, at: At, c: &Copy) -> R<()> {
        let mut bytes = [0; 16];
        if c.read > 0 {
            let p = self.global(at, c.global, c.read)?;
            // SAFETY: as many bytes of a buffer, at most 16.
            unsafe { p.copy_to_nonoverlapping(bytes.as_mut_ptr(), c.read) };
        }
        self.store_generic(c.shared, &bytes[..c.bytes], c.shared.cta);
        Ok(())
    }
}
