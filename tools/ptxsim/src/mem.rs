//! Global memory.

use std::cell::UnsafeCell;
use std::sync::Mutex;

pub const SHARED_BASE: u64 = 0x0000_5000_0000_0000;
pub const LOCAL_BASE: u64 = 0x0000_5100_0000_0000;
pub const PARAM_BASE: u64 = 0x0000_5200_0000_0000;
pub const WINDOW: u64 = 1 << 32;
const HEAP_BASE: u64 = 0x0000_7000_0000_0000;

/// Memory between two buffers that belongs to none, so that an access past an end is noticed.
const GAP: u64 = 4096;

/// A piece of global memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Address of its first byte.
    pub address: u64,
    /// Its length.
    pub bytes: usize,
}

struct Alloc {
    base: u64,
    len: usize,
    data: Box<[UnsafeCell<u64>]>,
}

impl Alloc {
    fn pointer(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.data.as_ptr()).cast()
    }
}

/// All global allocations. CTAs that run in parallel share them as the threads of a GPU do: through pointers; what
/// reads, modifies and writes takes `lock`.
#[derive(Default)]
pub struct GlobalMem {
    allocs: Vec<Alloc>,
    next: u64,
    pub lock: Mutex<()>,
}

// SAFETY: accesses go through raw pointers, none of which outlives an instruction. Threads of a kernel without data
// races in global memory touch disjoint bytes or hold `lock`; for others, bytes are as undefined as on a GPU.
unsafe impl Sync for GlobalMem {}

impl GlobalMem {
    /// Bytes are 0xff, a NaN in every float format.
    pub fn alloc(&mut self, len: usize) -> Buffer {
        let base = HEAP_BASE + self.next;
        self.next += (len as u64).next_multiple_of(512) + GAP;
        self.alloc_at(base, len)
    }

    /// Replaces what was allocated there.
    pub fn alloc_at(&mut self, base: u64, len: usize) -> Buffer {
        self.free(base);
        let words = (0..len.div_ceil(8)).map(|_| UnsafeCell::new(u64::MAX));
        let data = words.collect();
        let index = self.allocs.partition_point(|alloc| alloc.base < base);
        self.allocs.insert(index, Alloc { base, len, data });
        Buffer {
            address: base,
            bytes: len,
        }
    }

    /// Forgets what was allocated there.
    pub fn free(&mut self, base: u64) {
        self.allocs.retain(|alloc| alloc.base != base);
    }

    /// The allocation at or below an address.
    fn below(&self, address: u64) -> Option<&Alloc> {
        let end = self.allocs.partition_point(|alloc| alloc.base <= address);
        self.allocs.get(end.checked_sub(1)?)
    }

    /// `len` bytes at an address, if they lie in one buffer.
    #[inline]
    pub fn ptr(&self, address: u64, len: usize) -> Option<*mut u8> {
        let alloc = self.below(address)?;
        let offset = (address - alloc.base) as usize;
        // SAFETY: the offset is within the allocation.
        (offset + len <= alloc.len).then(|| unsafe { alloc.pointer().add(offset) })
    }

    /// Which buffer an address was perhaps meant for.
    pub fn describe(&self, address: u64) -> String {
        match self.below(address) {
            Some(alloc) => format!(
                "the buffer below has {} bytes at 0x{:x}; this is its byte {}",
                alloc.len,
                alloc.base,
                address - alloc.base
            ),
            None => "no buffer lies below".into(),
        }
    }

    /// The contents of every buffer.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let bytes = |alloc: &Alloc| {
            // SAFETY: no kernel runs, nothing else writes.
            unsafe { std::slice::from_raw_parts(alloc.pointer(), alloc.len) }.to_vec()
        };
        self.allocs.iter().map(bytes).collect()
    }

    /// Sets what [`contents`](Self::contents) returned.
    pub fn restore(&mut self, contents: &[Vec<u8>]) {
        for (alloc, bytes) in self.allocs.iter().zip(contents) {
            // SAFETY: as long as the allocation, and `self` is borrowed exclusively.
            unsafe {
                alloc
                    .pointer()
                    .copy_from_nonoverlapping(bytes.as_ptr(), alloc.len)
            }
        }
    }

    /// The address of the first byte that differs from `contents`.
    pub fn difference(&self, contents: &[Vec<u8>]) -> Option<u64> {
        let now = self.contents();
        let mut pairs = self.allocs.iter().zip(now.iter().zip(contents));
        pairs.find_map(|(alloc, (a, b))| {
            let offset = a.iter().zip(b).position(|(a, b)| a != b)?;
            Some(alloc.base + offset as u64)
        })
    }
}
