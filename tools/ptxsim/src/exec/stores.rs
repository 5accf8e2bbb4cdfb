//! Bulk and tensor copies and reductions from shared to global memory.

use super::address::{Loc, START};
use super::{At, Cluster, R, try_lanes};
use crate::alu::registers::lanes;
use crate::ir::*;
use crate::launch::Check;
use crate::reduction::reduce;
use crate::tensor_map::Chunk;
use crate::ty::Ty;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
enum Destination {
    Linear(u64),
    Tile { map: usize, coords: Vec<i32> },
}

/// An outstanding store.
#[derive(Debug, Clone)]
struct Store {
    at: At,
    shared: Loc,
    n: usize,
    destination: Destination,
    reduction: Option<(Reduction, Ty)>,
    /// What it read of shared memory, once it has.
    data: Option<Vec<u8>>,
    written: bool,
}

/// The stores of a lane.
#[derive(Debug, Clone, Default)]
pub struct LaneStores {
    open: Vec<Store>,
    groups: VecDeque<Vec<Store>>,
    /// read (`wait_group.read`) but perhaps not yet written
    read: Vec<Store>,
}

impl LaneStores {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.groups.is_empty() && self.read.is_empty()
    }

    /// The instruction whose store may still read a byte.
    pub fn reader(&self, p: Loc) -> Option<u32> {
        let mut stores = self.open.iter().chain(self.groups.iter().flatten());
        let reads = |s: &&Store| {
            let end = (s.shared.o + s.n).next_multiple_of(128);
            s.shared.cta == p.cta && (s.shared.o..end).contains(&p.o)
        };
        stores.find(reads).map(|s| s.at.pc)
    }
}

impl Cluster<'_> {
    pub(super) fn bulk_store(&mut self, at: At, mask: u32, s: &BulkStore) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let (destination, n, ty) = self.destination(at, &s.global)?;
            let shared = self.locate(at, Space::Shared, self.address(at, &s.shared), n)?;
            self.check_bulk(at, &s.global, shared, n)?;
            self.race_read(at, shared, n)?;
            let mut store = Store {
                at,
                shared,
                n,
                destination,
                reduction: s.reduction.map(|(op, own)| (op, ty.unwrap_or(own))),
                data: None,
                written: false,
            };
            if self.acts_now() {
                self.write_store(&mut store)?;
            }
            let cta = &mut self.ctas[shared.cta];
            cta.shared.add_reader(shared.o, n, true);
            self.warps[at.wi].stores[l].open.push(store);
            Ok(())
        })
    }

    /// Where to, how many bytes, and the type of a tensor's elements.
    fn destination(&self, at: At, bulk: &Bulk) -> R<(Destination, usize, Option<Ty>)> {
        match bulk {
            Bulk::Linear { address, bytes } => {
                let n = self.reg(at, *bytes) as usize;
                Ok((Destination::Linear(self.address(at, address)), n, None))
            }
            Bulk::Tensor { map, coords } => {
                let (map, coords) = self.tile(at, map, coords)?;
                let tensor = &self.job.maps[map];
                let (n, ty) = (tensor.box_bytes(), tensor.ty);
                Ok((Destination::Tile { map, coords }, n, Some(ty)))
            }
        }
    }

    pub(super) fn bulk_commit(&mut self, wi: usize, mask: u32) {
        lanes(mask, |l| {
            let stores = &mut self.warps[wi].stores[l];
            let group = std::mem::take(&mut stores.open);
            stores.groups.push_back(group);
        });
    }

    pub(super) fn bulk_wait(&mut self, wi: usize, mask: u32, pending: usize, read: bool) -> R<()> {
        try_lanes(mask, |l| {
            while self.warps[wi].stores[l].groups.len() > pending {
                let group = self.warps[wi].stores[l].groups.pop_front();
                for mut store in group.into_iter().flatten() {
                    self.read_store(&mut store)?;
                    let cta = &mut self.ctas[store.shared.cta];
                    cta.shared.add_reader(store.shared.o, store.n, false);
                    self.warps[wi].stores[l].read.push(store);
                }
            }
            if read {
                return Ok(());
            }
            let done = std::mem::take(&mut self.warps[wi].stores[l].read);
            done.into_iter()
                .try_for_each(|mut s| self.write_store(&mut s))
        })
    }

    /// Stores that were never waited for: shared memory may be gone before they read it.
    pub(super) fn finish_stores(&mut self, at: At) -> R<()> {
        let stores = &mut self.warps[at.wi].stores[at.l];
        if stores.is_empty() {
            return Ok(());
        }
        let stores = std::mem::take(stores);
        let unread: Vec<_> = stores
            .groups
            .into_iter()
            .flatten()
            .chain(stores.open)
            .collect();
        if let Some(store) = unread.first() {
            self.breach(
                Check::Unfinished,
                store.at,
                "the thread exits without waiting (cp.async.bulk.wait_group.read) for this store",
            )?;
        }
        let all = stores.read.into_iter().chain(unread);
        all.into_iter()
            .try_for_each(|mut s| self.write_store(&mut s))
    }

    /// Reads the source.
    fn read_store(&mut self, s: &mut Store) -> R<()> {
        if s.data.is_some() {
            return Ok(());
        }
        self.check_async_read(s.at, s.shared, s.n)?;
        // Swizzling stays within 128-byte lines.
        let shared = &self.ctas[s.shared.cta].shared.bytes;
        let end = (s.shared.o + s.n).next_multiple_of(128).min(shared.len());
        s.data = Some(shared[s.shared.o..end].to_vec());
        Ok(())
    }

    fn write_store(&mut self, s: &mut Store) -> R<()> {
        if std::mem::replace(&mut s.written, true) {
            return Ok(());
        }
        self.read_store(s)?;
        let data = s.data.take().unwrap_or_default();
        let _lock = s.reduction.map(|_| self.job.global.lock.lock());
        let written = match &s.destination {
            Destination::Linear(a) => self.write_linear(s, *a, &data),
            Destination::Tile { map, coords } => self.write_tile(s, *map, coords, &data),
        };
        s.data = Some(data);
        written
    }

    fn write_linear(&mut self, s: &Store, a: u64, data: &[u8]) -> R<()> {
        let q = self.global_to_write(s.at, a, s.n)?;
        // SAFETY: `n` bytes of a buffer.
        unsafe { write(s.reduction, q, &data[..s.n]) };
        Ok(())
    }

    fn write_tile(&mut self, s: &Store, map: usize, coords: &[i32], data: &[u8]) -> R<()> {
        let map = &self.job.maps[map];
        let start = s.shared.o as u64 + START;
        let mut chunks = Vec::new();
        map.walk(start, coords, |c| {
            if !c.inside.is_empty() {
                chunks.push(c);
            }
        });
        for Chunk {
            shared,
            global,
            inside,
        } in chunks
        {
            let a = global.unwrap_or_default().wrapping_add(inside.start as u64);
            let q = self.global_to_write(s.at, a, inside.len())?;
            let from = (shared - start) as usize;
            let Some(data) = data.get(from + inside.start..from + inside.end) else {
                return self.fail(
                    s.at,
                    format!("the tile touches shared memory at 0x{shared:x}, out of bounds"),
                );
            };
            // SAFETY: as many bytes of a buffer.
            unsafe { write(s.reduction, q, data) };
        }
        Ok(())
    }
}

/// Copies `data` to global memory, or reduces it into what is there.
///
/// # Safety
/// As many bytes at `q` belong to a buffer.
unsafe fn write(reduction: Option<(Reduction, Ty)>, q: *mut u8, data: &[u8]) {
    let Some((op, ty)) = reduction else {
        // SAFETY: the caller's promise.
        return unsafe { q.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    };
    let n = ty.bytes();
    for (i, element) in data.chunks_exact(n).enumerate() {
        // SAFETY: the caller's promise, and the bytes are within the element.
        let old = unsafe { std::slice::from_raw_parts_mut(q.add(i * n), n) };
        let word = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |v, b| v << 8 | *b as u64)
        };
        let new = reduce(op, ty, word(old), word(element));
        old.copy_from_slice(&new.to_le_bytes()[..n]);
    }
}
