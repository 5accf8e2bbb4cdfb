//! What a launch executes and moves, counted: no model of time, and the same numbers in every run.

pub(crate) mod banks;
pub(crate) mod pipe;
pub(crate) mod product;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::ops::Range;

pub use pipe::Pipe;
pub use product::{Kind, Product};
pub use traffic::Traffic;

/// What the warps of a launch executed and moved, all CTAs together. Counted are instructions of the PTX: the assembler
/// makes fewer or more of them, but no others that touch memory, unless it spills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Warp instructions by pipe; one whose guard lets no lane through counts, too.
    pub instructions: BTreeMap<Pipe, u64>,
    /// Matrix products by shape: of a warpgroup for wgmma, of a warp otherwise.
    pub products: BTreeMap<Product, u64>,
    /// Shared memory, as the load and store units see it.
    pub shared: SharedCounts,
    /// Bytes that the tensor cores read of shared memory themselves: the operands of wgmma.
    pub product_bytes: u64,
    /// Bytes that bulk and tensor copies wrote to the shared memory of CTAs; a multicast counts in each.
    pub bulk_written: u64,
    /// Bytes that they read of it.
    pub bulk_read: u64,
    /// Global memory: the ranges of [`Launch::count`](crate::Launch::count), in order, and last what lies in none.
    pub global: Vec<Traffic>,
    /// Waits and arrivals, each of a warp.
    pub waits: Waits,
}

/// Accesses of warps to shared memory: ordinary ones, atomics, `ldmatrix`, `stmatrix`, `cp.async`.
///
/// 32 banks of 4 bytes. An access of 8 bytes a lane goes in halves of the warp, one of 16 bytes in quarters, a matrix in
/// its eight rows; each such part takes as many wavefronts as some bank has different words of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedCounts {
    /// Instructions that read or wrote something.
    pub accesses: u64,
    /// Wavefronts that they took: cycles of the shared memory, at 128 bytes each.
    pub wavefronts: u64,
    /// Wavefronts beyond one for each part.
    pub conflicts: u64,
    /// Bytes that lanes read.
    pub read: u64,
    /// Bytes that lanes wrote.
    pub written: u64,
}

/// Waits that ended, however long they took, and arrivals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// At named barriers and barrier 0: `bar.sync`.
    pub barrier: u64,
    /// `bar.arrive`.
    pub barrier_arrivals: u64,
    /// For a phase of an mbarrier.
    pub mbarrier: u64,
    /// Arrivals at mbarriers.
    pub mbarrier_arrivals: u64,
    /// `wgmma.wait_group`.
    pub wgmma: u64,
    /// `cp.async.wait_group`, and that of bulk stores.
    pub copies: u64,
    /// `barrier.cluster.wait`.
    pub cluster: u64,
}

impl Counts {
    /// Nothing counted yet, for so many ranges of global memory.
    pub(crate) fn new(ranges: &[Range<u64>]) -> Self {
        Self {
            global: vec![Traffic::default(); ranges.len() + 1],
            ..Self::default()
        }
    }

    /// Warp instructions.
    pub fn issued(&self) -> u64 {
        self.instructions.values().sum()
    }

    /// Adds what another part of the launch did.
    pub(crate) fn merge(&mut self, other: &Counts) {
        for (pipe, n) in &other.instructions {
            *self.instructions.entry(*pipe).or_default() += n;
        }
        for (product, n) in &other.products {
            *self.products.entry(*product).or_default() += n;
        }
        self.shared.merge(&other.shared);
        self.product_bytes += other.product_bytes;
        self.bulk_written += other.bulk_written;
        self.bulk_read += other.bulk_read;
        let ranges = self.global.len().max(other.global.len());
        self.global.resize(ranges, Traffic::default());
        for (own, other) in self.global.iter_mut().zip(&other.global) {
            own.merge(other);
        }
        self.waits.merge(&other.waits);
    }
}

impl SharedCounts {
    fn merge(&mut self, other: &Self) {
        self.accesses += other.accesses;
        self.wavefronts += other.wavefronts;
        self.conflicts += other.conflicts;
        self.read += other.read;
        self.written += other.written;
    }
}

impl Waits {
    fn merge(&mut self, other: &Self) {
        self.barrier += other.barrier;
        self.barrier_arrivals += other.barrier_arrivals;
        self.mbarrier += other.mbarrier;
        self.mbarrier_arrivals += other.mbarrier_arrivals;
        self.wgmma += other.wgmma;
        self.copies += other.copies;
        self.cluster += other.cluster;
    }
}
