//! Addresses: windows of the generic address space, and shared addresses.
//!
//! A shared address is `rank << 24 | offset`, as on sm_90: the window of a CTA is part of the window of its cluster.

use super::{At, Cluster, R};
use crate::decode::SHARED_START;
use crate::ir::Space;
use crate::mem::{LOCAL_BASE, PARAM_BASE, SHARED_BASE, WINDOW};

pub const RANK_SHIFT: u32 = 24;
const OFFSET_MASK: u64 = (1 << RANK_SHIFT) - 1;
/// Of the first byte of shared memory in its window.
pub const START: u64 = SHARED_START as u64;

/// A place in the shared memory of a CTA of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loc {
    pub cta: usize,
    pub o: usize,
}

impl Loc {
    pub fn address(self) -> u64 {
        (self.cta as u64) << RANK_SHIFT | (self.o as u64 + START)
    }
}

pub fn window(space: Space) -> u64 {
    match space {
        Space::Shared | Space::Cluster => SHARED_BASE,
        Space::Local => LOCAL_BASE,
        Space::Param => PARAM_BASE,
        Space::Global | Space::Generic => 0,
    }
}

/// The space of a generic address.
pub fn classify(a: u64) -> Space {
    match a >> 32 {
        x if x == SHARED_BASE >> 32 => Space::Cluster,
        x if x == LOCAL_BASE >> 32 => Space::Local,
        x if x == PARAM_BASE >> 32 => Space::Param,
        _ => Space::Global,
    }
}

/// Offset in a window of an address in its space, or of a generic one.
pub fn in_window(a: u64, base: u64) -> u64 {
    if (base..base + WINDOW).contains(&a) {
        a - base
    } else {
        a
    }
}

impl Cluster<'_> {
    /// Shared memory at a shared or generic address; `Space::Shared` must stay in the own CTA.
    pub(super) fn locate(&mut self, at: At, space: Space, a: u64, n: usize) -> R<Loc> {
        let a = in_window(a, SHARED_BASE);
        let own = self.cta_of(at.wi);
        let (cta, low) = ((a >> RANK_SHIFT) as usize, a & OFFSET_MASK);
        let end = START + self.job.shared_bytes as u64;
        if low < START || low + n as u64 > end || cta >= self.ctas.len() {
            let rank = (own as u64) << RANK_SHIFT;
            return self.fail(
                at,
                format!(
                    "{n} bytes of shared memory at 0x{a:x} are out of bounds: it is 0x{:x}..0x{:x}",
                    START | rank,
                    end | rank
                ),
            );
        }
        if cta != own {
            if space == Space::Shared {
                return self.fail(
                    at,
                    format!(
                        "0x{a:x} belongs to CTA rank {cta}, but the access is to \
                     shared::cta of CTA rank {own}"
                    ),
                );
            }
            self.touch(at, cta)?;
        }
        Ok(Loc {
            cta,
            o: (low - START) as usize,
        })
    }

    pub(super) fn global(&self, at: At, a: u64, n: usize) -> R<*mut u8> {
        let global = self.job.global;
        global.ptr(a, n).ok_or_else(|| {
            let near = global.describe(a);
            self.error(
                at,
                format!("{n} bytes of global memory at 0x{a:x} are out of bounds: {near}"),
            )
        })
    }

    /// Global memory that is about to be written.
    pub(super) fn global_to_write(&mut self, at: At, a: u64, n: usize) -> R<*mut u8> {
        if let Some(watch) = self.job.watch
            && (a..a + n as u64).contains(&watch)
        {
            self.watched = Some(self.line(at.pc));
        }
        self.global(at, a, n)
    }
}
