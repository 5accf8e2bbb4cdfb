//! Ordinary loads, stores and atomics.

use super::address::{Loc, RANK_SHIFT, START, classify, in_window};
use super::{At, Cluster, R, try_lanes};
use crate::alu::registers::{Registers, lanes};
use crate::ir::*;
use crate::mem::{LOCAL_BASE, PARAM_BASE};
use crate::reduction::reduce;

impl<'a> Cluster<'a> {
    fn check_alignment(&self, at: At, a: u64, n: usize) -> R<()> {
        if a.is_multiple_of(n as u64) {
            return Ok(());
        }
        self.fail(at, format!("{n} bytes at 0x{a:x} are misaligned"))
    }

    pub(super) fn read(&mut self, at: At, space: Space, a: u64, out: &mut [u8]) -> R<()> {
        self.fetch(at, space, a, out)?;
        match self.racing(at, space, a, out.len())? {
            Some(p) => self.race_read(at, p, out.len()),
            None => Ok(()),
        }
    }

    pub(super) fn write(&mut self, at: At, space: Space, a: u64, data: &[u8]) -> R<()> {
        if let Some(p) = self.racing(at, space, a, data.len())? {
            self.race_write(at, p, data.len())?;
        }
        self.put(at, space, a, data)
    }

    /// Shared memory in which races are looked for.
    fn racing(&mut self, at: At, space: Space, a: u64, n: usize) -> R<Option<Loc>> {
        let shared = match space {
            Space::Shared | Space::Cluster => true,
            Space::Generic => classify(a) == Space::Cluster,
            _ => false,
        };
        if !shared || !self.job.launch.races {
            return Ok(None);
        }
        self.locate(at, space, a, n).map(Some)
    }

    /// Reads, and nothing else: what atomics do is ordered.
    fn fetch(&mut self, at: At, space: Space, a: u64, out: &mut [u8]) -> R<()> {
        let n = out.len();
        let space = if space == Space::Generic {
            classify(a)
        } else {
            space
        };
        self.check_alignment(at, a, n)?;
        match space {
            Space::Shared | Space::Cluster => {
                let p = self.locate(at, space, a, n)?;
                self.check_read(at, p, n)?;
                out.copy_from_slice(&self.ctas[p.cta].shared.bytes[p.o..p.o + n]);
            }
            Space::Global | Space::Generic => {
                let p = self.global(at, a, n)?;
                // SAFETY: `n` bytes of a buffer.
                unsafe { p.copy_to_nonoverlapping(out.as_mut_ptr(), n) };
            }
            Space::Param => {
                let o = in_window(a, PARAM_BASE) as usize;
                match self.job.params.get(o..o + n) {
                    Some(bytes) => out.copy_from_slice(bytes),
                    None => return self.fail(at, format!("parameter byte {o} is out of bounds")),
                }
            }
            Space::Local => {
                let o = self.local(at, a, n)?;
                out.copy_from_slice(&self.warps[at.wi].local[o..o + n]);
            }
        }
        Ok(())
    }

    fn put(&mut self, at: At, space: Space, a: u64, data: &[u8]) -> R<()> {
        let n = data.len();
        let space = if space == Space::Generic {
            classify(a)
        } else {
            space
        };
        self.check_alignment(at, a, n)?;
        match space {
            Space::Shared | Space::Cluster => {
                let p = self.locate(at, space, a, n)?;
                self.check_write(at, p, n)?;
                self.store_generic(p, data, self.cta_of(at.wi));
            }
            Space::Global | Space::Generic => {
                let p = self.global_to_write(at, a, n)?;
                // SAFETY: `n` bytes of a buffer.
                unsafe { p.copy_from_nonoverlapping(data.as_ptr(), n) };
            }
            Space::Local => {
                let o = self.local(at, a, n)?;
                self.warps[at.wi].local[o..o + n].copy_from_slice(data);
            }
            Space::Param => return self.fail(at, "stores to a parameter"),
        }
        Ok(())
    }

    fn local(&self, at: At, a: u64, n: usize) -> R<usize> {
        let o = in_window(a, LOCAL_BASE) as usize;
        if o + n > self.job.local_bytes {
            return self.fail(at, format!("byte {o} of local memory is out of bounds"));
        }
        Ok(at.l * self.job.local_bytes + o)
    }

    pub(super) fn ld(
        &mut self,
        at: At,
        mask: u32,
        (space, n): (Space, usize),
        addr: &Addr,
        d: &[(S, Extend)],
    ) -> R<()> {
        let mask = match d {
            _ if n != 4 || d.iter().any(|(_, extend)| *extend != Extend::None) => mask,
            [a] => self.ld_words(at, mask, space, addr, &[a.0]),
            [a, b] => self.ld_words(at, mask, space, addr, &[a.0, b.0]),
            [a, b, c, d] => self.ld_words(at, mask, space, addr, &[a.0, b.0, c.0, d.0]),
            _ => mask,
        };
        let total = n * d.len();
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let a = self.address(at, addr);
            let mut bytes = [0; 64];
            self.read(at, space, a, &mut bytes[..total])?;
            let r = &mut self.warps[at.wi].registers;
            for ((s, extend), bytes) in d.iter().zip(bytes.chunks_exact(n)) {
                load(r, *s, l, bytes, *extend);
            }
            Ok(())
        })
    }

    /// Loads that are as most are: whole words of the CTA's own shared memory, or of global memory. The lanes that are
    /// left are for [`ld`](Self::ld), which knows what is wrong with them.
    fn ld_words<const N: usize>(
        &mut self,
        at: At,
        mask: u32,
        space: Space,
        addr: &Addr,
        d: &[S; N],
    ) -> u32 {
        let (global, races) = (self.job.global, self.job.launch.races);
        let w = &mut self.warps[at.wi];
        let shared = &self.ctas[w.cta].shared;
        let window = (w.cta as u64) << RANK_SHIFT | START;
        let mut left = mask;
        lanes(mask, |l| {
            let base = w.registers.raw(addr.slot, if addr.wide { 8 } else { 4 }, l);
            let a = base.wrapping_add_signed(addr.offset);
            let words = match space {
                Space::Shared if !races => shared.words(a.wrapping_sub(window) as usize),
                Space::Global if a.is_multiple_of(4 * N as u64) => {
                    // SAFETY: as many bytes of a buffer, any bits of which are words.
                    let read = |p: *mut u8| unsafe { p.cast::<[u32; N]>().read_unaligned() };
                    global.ptr(a, 4 * N).map(read)
                }
                _ => None,
            };
            if let Some(words) = words {
                d.iter()
                    .zip(words)
                    .for_each(|(s, v)| w.registers.set(*s, l, v));
                left &= !(1 << l);
            }
        });
        left
    }

    pub(super) fn st(
        &mut self,
        at: At,
        mask: u32,
        (space, n): (Space, usize),
        addr: &Addr,
        s: &[S],
    ) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let mut bytes = [0; 64];
            let r = &self.warps[at.wi].registers;
            for (s, bytes) in s.iter().zip(bytes.chunks_exact_mut(n)) {
                bytes.copy_from_slice(&r.raw(*s, n, l).to_le_bytes()[..n]);
            }
            self.write(at, space, self.address(at, addr), &bytes[..n * s.len()])
        })
    }

    pub(super) fn atom(&mut self, at: At, mask: u32, s: &Atom) -> R<()> {
        let global = self.job.global;
        let _lock = global.lock.lock();
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            (0..s.b.len()).try_for_each(|i| self.atom_one(at, s, i))
        })
    }

    /// Element `i` of a vector.
    fn atom_one(&mut self, at: At, s: &Atom, i: usize) -> R<()> {
        let n = s.ty.bytes();
        let a = self.address(at, &s.addr) + (i * n) as u64;
        let mut bytes = [0; 8];
        self.fetch(at, s.space, a, &mut bytes[..n])?;
        let old = u64::from_le_bytes(bytes);
        let r = &mut self.warps[at.wi].registers;
        let b = r.raw(s.b[i], n, at.l);
        let equal = old == b & s.ty.mask();
        let new = match (s.op, s.c) {
            (Atomic::Reduce(op), _) => reduce(op, s.ty, old, b),
            (Atomic::CompareAndSwap, Some(c)) if equal => r.raw(c, n, at.l),
            (Atomic::CompareAndSwap, _) => old,
            (Atomic::Exchange, _) => b,
        };
        if let Some(d) = s.d.get(i) {
            r.set_raw(*d, n, at.l, old);
        }
        self.put(at, s.space, a, &new.to_le_bytes()[..n])
    }

    /// mapa: the address of the same variable in the CTA of another rank.
    pub(super) fn mapa(&mut self, at: At, mask: u32, (d, a, rank): (S, S, S), wide: bool) -> R<()> {
        let n = if wide { 8 } else { 4 };
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let rank = self.reg(at, rank) as u64;
            if rank as usize >= self.ctas.len() {
                let size = self.ctas.len();
                return self.fail(at, format!("CTA rank {rank} in a cluster of {size}"));
            }
            let r = &mut self.warps[at.wi].registers;
            let own = r.raw(a, n, l) & !(0xff << RANK_SHIFT);
            r.set_raw(d, n, l, own | rank << RANK_SHIFT);
            Ok(())
        })
    }
}

#[inline(always)]
fn load(r: &mut Registers, s: S, l: usize, bytes: &[u8], extend: Extend) {
    let v = match *bytes {
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as u64,
        [a, b] => u16::from_le_bytes([a, b]) as u64,
        [a] => a as u64,
        _ => u64::from_le_bytes(bytes.try_into().unwrap_or_default()),
    };
    let unused = 64 - 8 * bytes.len();
    let signed = || (v << unused) as i64 >> unused;
    match extend {
        Extend::None if bytes.len() == 8 => r.set64(s, l, v),
        Extend::None => r.set(s, l, v as u32),
        Extend::Signed32 => r.set(s, l, signed() as u32),
        Extend::Zero64 => r.set64(s, l, v),
        Extend::Signed64 => r.set64(s, l, signed() as u64),
    }
}
