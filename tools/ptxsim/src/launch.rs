//! What a launch is given, and what it tells.

use std::ops::Range;

use crate::counts::Counts;
use crate::mem::Buffer;

/// When asynchronous operations (copies, wgmma) take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When they are issued.
    Eager,
    /// At the latest moment that is legal; until then the destination holds poison.
    Lazy,
    /// Each operation one or the other; the number is the seed.
    Random(u64),
}

/// Which warp runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// One after the other, a slice each.
    RoundRobin,
    /// The runnable warp with the lowest index: a producer in warp 0 runs ahead as far as it can.
    LowFirst,
    /// The runnable warp with the highest index.
    HighFirst,
    /// Random order and slice lengths; the number is the seed.
    Random(u64),
}

/// Rules whose breach does not stop a program on real hardware, but makes its result depend on luck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Shared memory is read that nothing wrote.
    Uninitialised,
    /// Shared memory is read while an asynchronous copy writes it, or written while a copy or wgmma reads it.
    InFlight,
    /// Registers of a wgmma are touched before its `wait_group`, or after the last `wgmma.fence` before it.
    Registers,
    /// Shared memory written by ordinary stores is read by a bulk copy or wgmma without a `fence.proxy.async`; an
    /// mbarrier is used by another CTA without `fence.mbarrier_init`.
    Proxy,
    /// Shared memory of another CTA is touched, and nothing says that this CTA has started and has not exited.
    Lifetime,
    /// Copies or wgmmas are outstanding when their CTA exits.
    Unfinished,
    /// Two warps access the same shared memory, one of them writes, and nothing orders them. Looked for where
    /// [`Launch::races`] says so.
    Race,
    /// A shuffle reads a lane that does not take part.
    Lanes,
}

/// How to launch a kernel.
#[derive(Debug, Clone)]
pub struct Launch {
    /// CTAs of the grid.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// CTAs of a cluster, as the launch attribute; a kernel with `.reqnctapercluster` brings its own.
    pub cluster: Option<[u32; 3]>,
    /// When asynchronous operations take effect.
    pub mode: Mode,
    /// Which warp runs next.
    pub schedule: Schedule,
    /// Look for races between ordinary accesses to shared memory, which takes time.
    pub races: bool,
    /// Count what is executed and moved, into [`Stats::counts`]: global memory by these ranges of addresses. The counts
    /// are those of this order of events, of which [`Mode::Eager`] has the fewest retries.
    pub count: Option<Vec<Range<u64>>>,
    /// Breaches of these go to [`Stats::warnings`]; of all others they are errors.
    pub tolerate: Vec<Check>,
    /// Run clusters (or CTAs without clusters) on all cores. Atomics on floats then add up in any order.
    pub parallel: bool,
    /// Instructions that the warps of a cluster may execute together before they count as caught in a loop.
    pub max_warp_instructions: u64,
}

impl Launch {
    /// Lazy, warps in turn, CTAs in parallel, no dynamic shared memory, every check an error.
    pub fn new(grid: [u32; 3], block: [u32; 3]) -> Self {
        Self {
            grid,
            block,
            shared: 0,
            cluster: None,
            mode: Mode::Lazy,
            schedule: Schedule::RoundRobin,
            races: false,
            count: None,
            tolerate: Vec::new(),
            parallel: true,
            max_warp_instructions: 2_000_000_000,
        }
    }

    /// This launch in orders that differ as much as orders can: a correct kernel gives the same result in each. Races
    /// are looked for in the first.
    pub fn orders(&self) -> impl Iterator<Item = Launch> {
        const ORDERS: [(Mode, Schedule); 6] = [
            (Mode::Eager, Schedule::RoundRobin),
            (Mode::Lazy, Schedule::RoundRobin),
            (Mode::Lazy, Schedule::LowFirst),
            (Mode::Eager, Schedule::HighFirst),
            (Mode::Random(1), Schedule::Random(1)),
            (Mode::Random(2), Schedule::Random(2)),
        ];
        let orders = ORDERS.into_iter().enumerate();
        orders.map(|(i, (mode, schedule))| Self {
            mode,
            schedule,
            races: self.races || i == 0,
            ..self.clone()
        })
    }
}

/// What a launch did.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Thread instructions: one of a full warp counts 32.
    pub instructions: u64,
    /// wgmma instructions, one per warpgroup.
    pub wgmma: u64,
    /// `mma.sync` instructions, one per warp.
    pub mma: u64,
    /// Bulk and tensor copies into shared memory.
    pub bulk_loads: u64,
    /// Bytes of these.
    pub bulk_bytes: u64,
    /// What was executed and moved, if [`Launch::count`] asks for it.
    pub counts: Option<Counts>,
    /// Breaches of tolerated checks, each place once.
    pub warnings: Vec<String>,
}

impl Stats {
    /// Warnings that are kept.
    pub(crate) const WARNINGS: usize = 200;

    pub(crate) fn merge(&mut self, other: Stats) {
        self.instructions += other.instructions;
        self.wgmma += other.wgmma;
        self.mma += other.mma;
        self.bulk_loads += other.bulk_loads;
        self.bulk_bytes += other.bulk_bytes;
        if let Some(counts) = &other.counts {
            self.counts.get_or_insert_default().merge(counts);
        }
        for warning in other.warnings {
            if self.warnings.len() < Self::WARNINGS && !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

/// A tensor map that a device knows.
#[derive(Debug, Clone, Copy)]
pub struct MapId(pub(crate) usize);

impl MapId {
    /// The first 16 of the 128 bytes by which the simulator knows the tensor map when a kernel passes its address to a
    /// copy; the others are zero.
    pub fn words(self) -> [u64; 2] {
        [Arg::MAP_MAGIC, self.0 as u64]
    }
}

/// A kernel argument.
#[derive(Debug, Clone)]
pub enum Arg {
    /// The bytes of a number, of an address or of a struct.
    Bytes(Vec<u8>),
    /// A `CUtensorMap` passed by value.
    Map(MapId),
}

impl Arg {
    pub(crate) const MAP_MAGIC: u64 = 0x5458_5453_494d_4d31;

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Map(id) => {
                let mut bytes = vec![0; 128];
                for (bytes, word) in bytes.chunks_mut(8).zip(id.words()) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
                bytes
            }
        }
    }
}

impl From<Buffer> for Arg {
    fn from(buffer: Buffer) -> Self {
        buffer.address.into()
    }
}

impl From<MapId> for Arg {
    fn from(map: MapId) -> Self {
        Self::Map(map)
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl From<$t> for Arg {
            fn from(number: $t) -> Self {
                Self::Bytes(number.to_le_bytes().to_vec())
            }
        }
    )*};
}
numbers!(u32, i32, f32, u64, i64);
