//! The registers and predicates of a warp.

use crate::ir::{PSrc, S};

/// 32 lanes of a slot.
pub type Word = [u32; 32];

#[derive(Clone)]
pub struct Registers {
    pub words: Vec<Word>,
    /// A bit per lane.
    pub predicates: Vec<u32>,
}

/// Calls `f` for the lanes of a mask.
#[inline(always)]
pub fn lanes(mut mask: u32, mut f: impl FnMut(usize)) {
    while mask != 0 {
        f(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

impl Registers {
    #[inline(always)]
    pub fn get(&self, s: S, lane: usize) -> u32 {
        self.words[s as usize][lane]
    }

    #[inline(always)]
    pub fn set(&mut self, s: S, lane: usize, v: u32) {
        self.words[s as usize][lane] = v;
    }

    #[inline(always)]
    pub fn get64(&self, s: S, lane: usize) -> u64 {
        self.get(s, lane) as u64 | (self.get(s + 1, lane) as u64) << 32
    }

    #[inline(always)]
    pub fn set64(&mut self, s: S, lane: usize, v: u64) {
        self.set(s, lane, v as u32);
        self.set(s + 1, lane, (v >> 32) as u32);
    }

    /// As many bytes of a register as a type has.
    pub fn raw(&self, s: S, bytes: usize, lane: usize) -> u64 {
        match bytes {
            8 => self.get64(s, lane),
            _ => self.get(s, lane) as u64,
        }
    }

    pub fn set_raw(&mut self, s: S, bytes: usize, lane: usize, v: u64) {
        match bytes {
            8 => self.set64(s, lane, v),
            _ => self.set(s, lane, v as u32),
        }
    }

    #[inline(always)]
    pub fn predicate(&self, p: PSrc) -> u32 {
        let v = self.predicates[p.p as usize];
        if p.neg { !v } else { v }
    }

    #[inline(always)]
    pub fn set_predicate(&mut self, p: u32, mask: u32, v: u32) {
        let q = &mut self.predicates[p as usize];
        *q = *q & !mask | v & mask;
    }

    /// `d = f(a)` in the lanes of a mask.
    #[inline(always)]
    pub fn map1(&mut self, mask: u32, d: S, a: S, f: impl Fn(u32) -> u32) {
        let x = self.words[a as usize];
        self.store(mask, d, std::array::from_fn(|l| f(x[l])));
    }

    /// `d = f(a, b)` in the lanes of a mask.
    #[inline(always)]
    pub fn map2(&mut self, mask: u32, d: S, [a, b]: [S; 2], f: impl Fn(u32, u32) -> u32) {
        let (x, y) = (self.words[a as usize], self.words[b as usize]);
        self.store(mask, d, std::array::from_fn(|l| f(x[l], y[l])));
    }

    /// `d = f(a, b, c)` in the lanes of a mask.
    #[inline(always)]
    pub fn map3(&mut self, mask: u32, d: S, s: [S; 3], f: impl Fn(u32, u32, u32) -> u32) {
        let [x, y, z] = s.map(|s| self.words[s as usize]);
        self.store(mask, d, std::array::from_fn(|l| f(x[l], y[l], z[l])));
    }

    /// The 64-bit values of a register, lane by lane.
    #[inline(always)]
    pub fn wide(&self, s: S) -> impl Fn(usize) -> u64 + use<> {
        let (low, high) = (self.words[s as usize], self.words[s as usize + 1]);
        move |l| low[l] as u64 | (high[l] as u64) << 32
    }

    #[inline(always)]
    pub fn store_wide(&mut self, mask: u32, d: S, f: impl Fn(usize) -> u64) {
        let values: [u64; 32] = std::array::from_fn(f);
        self.store(mask, d, values.map(|v| v as u32));
        self.store(mask, d + 1, values.map(|v| (v >> 32) as u32));
    }

    #[inline(always)]
    pub fn store(&mut self, mask: u32, d: S, v: Word) {
        let d = &mut self.words[d as usize];
        if mask == !0 {
            *d = v;
        } else {
            lanes(mask, |l| d[l] = v[l]);
        }
    }
}
