//! Shared memory of a cube as a list of what lies in it: tiles that are loaded once, rings of tiles, numbers; and barriers.

use cubecl::prelude::*;
use cubecl_cpp::cuda::ptx::generic_to_shared;

use super::ptx::mbarrier::{barrier_init, barrier_init_fence};

/// Bytes of a barrier.
pub(crate) const BARRIER: usize = 8;

/// Tiles that are loaded once: where they begin, and the barrier that they report to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resident {
    pub at: usize,
    pub bytes: usize,
    pub full: usize,
}

/// A ring of tiles. Each stage has two barriers: `full` when its tile has landed, `empty` when the last reader is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RingPlace {
    pub at: usize,
    pub stages: usize,
    /// Bytes of a stage.
    pub bytes: usize,
    /// Bytes of them that a tile fills.
    pub lands: usize,
    pub full: usize,
    pub empty: usize,
}

/// What has been laid out so far. Everything begins where what was before it ends; barriers are apart, and counted in
/// bytes too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    data: usize,
    /// Arrivals that end a phase of each barrier.
    arrivals: Vec<u32>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Room for `bytes`.
    pub(crate) fn region(&mut self, bytes: usize) -> usize {
        let at = self.data;
        self.data += bytes;
        at
    }

    /// Room for `bytes` that one thread loads once.
    pub(crate) fn resident(&mut self, bytes: usize) -> Resident {
        let at = self.region(bytes);
        let full = self.barriers(1, 1);
        Resident { at, bytes, full }
    }

    /// A ring of `stages` tiles that `readers` warps release.
    pub(crate) fn ring(&mut self, stages: usize, bytes: usize, readers: usize) -> RingPlace {
        self.ring_of(stages, [bytes, bytes], readers)
    }

    /// A ring of `stages` of so many bytes, fewer of which land.
    pub(crate) fn ring_of(
        &mut self,
        stages: usize,
        [bytes, lands]: [usize; 2],
        readers: usize,
    ) -> RingPlace {
        let at = self.region(stages * bytes);
        let full = self.barriers(stages, 1);
        let empty = self.barriers(stages, readers);
        RingPlace {
            at,
            stages,
            bytes,
            lands,
            full,
            empty,
        }
    }

    fn barriers(&mut self, count: usize, arrivals: usize) -> usize {
        let at = self.arrivals.len() * BARRIER;
        let all = self.arrivals.len() + count;
        self.arrivals.resize(all, arrivals as u32);
        at
    }

    fn data_bytes(&self) -> usize {
        self.data
    }

    fn barrier_count(&self) -> usize {
        self.arrivals.len()
    }

    /// All of it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.data + self.arrivals.len() * BARRIER
    }

    fn arrivals(&self, barrier: usize) -> u32 {
        self.arrivals[barrier]
    }
}

/// Where the shared memory of a cube begins: data and barriers, by address.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Room {
    pub data: u32,
    pub barriers: u32,
}

#[cube]
impl Room {
    /// Reserves shared memory and makes its barriers, which the cube must not touch before it has met.
    pub fn reserve(#[comptime] memory: Memory) -> Room {
        let words = comptime!(memory.data_bytes() / 4);
        let data = Shared::<[u32]>::new_aligned_slice(words, 1024usize);
        let barriers = Shared::<[u64]>::new_aligned_slice(
            comptime!(memory.barrier_count()),
            comptime!(BARRIER),
        );
        let room = Room {
            data: generic_to_shared::<u32>(unsafe { data.as_ptr_unchecked() }),
            barriers: generic_to_shared::<u64>(unsafe { barriers.as_ptr_unchecked() }),
        };
        if UNIT_POS == 0 {
            room.init(memory);
        }
        room
    }

    /// Makes all barriers. For one thread.
    fn init(&self, #[comptime] memory: Memory) {
        #[unroll]
        for i in 0..comptime!(memory.barrier_count()) {
            let at = self.barriers + comptime!((i * BARRIER) as u32);
            barrier_init(at, comptime!(memory.arrivals(i)));
        }
        barrier_init_fence();
    }
}
