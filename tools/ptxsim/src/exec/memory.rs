//! Address spaces: ordinary loads, stores, atomics and address conversions.
//!
//! A shared address is `rank << 24 | offset`, as on sm_90: the window of a CTA is part of the window of its cluster.
use super::*;

pub const RANK_SHIFT: u32 = 24;
const OFFSET_MASK: u64 = (1 << RANK_SHIFT) - 1;

/// A place in the shared memory of a CTA of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loc {
    pub cta: usize,
    pub o: usize,
}

impl Loc {
    pub fn addr(self) -> u64 {
        (self.cta as u64) << RANK_SHIFT | (self.o as u64 + SMEM0 as u64)
    }
}

pub fn window(sp: Sp) -> u64 {
    match sp {
        Sp::Shared | Sp::Cluster => SHARED_BASE,
        Sp::Local => LOCAL_BASE,
        Sp::Param => PARAM_BASE,
        _ => 0,
    }
}

/// The space of a generic address.
pub fn classify(a: u64) -> Sp {
    match a >> 32 {
        x if x == SHARED_BASE >> 32 => Sp::Cluster,
        x if x == LOCAL_BASE >> 32 => Sp::Local,
        x if x == PARAM_BASE >> 32 => Sp::Param,
        _ => Sp::Global,
    }
}

/// Offset in a window from an address in its space or a generic one.
fn in_window(a: u64, base: u64) -> u64 {
    if (base..base + WINDOW).contains(&a) {
        a - base
    } else {
        a
    }
}

impl<'a> Cluster<'a> {
    #[inline(always)]
    pub(super) fn ea(&self, rf: Rf, a: &Addr, l: usize) -> u64 {
        let b = if a.w64 {
            rf.get64(a.slot, l)
        } else {
            rf.get(a.slot, l) as u64
        };
        b.wrapping_add(a.off as u64)
    }

    /// Shared memory at a shared or generic address; `Sp::Shared` must stay in the own CTA.
    pub(super) fn shared(&mut self, at: At, sp: Sp, a: u64, n: usize) -> R<Loc> {
        let a = in_window(a, SHARED_BASE);
        let own = self.cta_of(at.wi);
        let (cta, low, base) = ((a >> RANK_SHIFT) as usize, a & OFFSET_MASK, SMEM0 as u64);
        let end = base + self.run.smem_size as u64;
        if low < base || low + n as u64 > end || cta >= self.ctas.len() {
            let rank = (own as u64) << RANK_SHIFT;
            return self.fail(
                at,
                format!(
                    "shared access of {n} bytes at 0x{a:x} is out of bounds (0x{:x}..0x{:x})",
                    base | rank,
                    end | rank
                ),
            );
        }
        if cta != own {
            if sp == Sp::Shared {
                return self.fail(at, format!("shared::cta access at 0x{a:x}, which belongs to CTA rank {cta}; this is CTA rank {own}"));
            }
            self.touch(at, cta)?;
        }
        Ok(Loc {
            cta,
            o: (low - base) as usize,
        })
    }

    pub(super) fn global(&self, at: At, a: u64, n: usize) -> R<*mut u8> {
        match self.run.gmem.ptr(a, n) {
            Some(p) => Ok(p),
            None => self.fail(
                at,
                format!(
                    "global access of {n} bytes at 0x{a:x} is out of bounds ({})",
                    self.run.gmem.describe(a)
                ),
            ),
        }
    }

    pub(super) fn read(&mut self, at: At, sp: Sp, a: u64, out: &mut [u8]) -> R<()> {
        let n = out.len();
        let sp = if sp == Sp::Generic { classify(a) } else { sp };
        if !a.is_multiple_of(n.min(16).next_power_of_two() as u64) {
            return self.fail(at, format!("misaligned {n}-byte load at 0x{a:x}"));
        }
        match sp {
            Sp::Shared | Sp::Cluster => {
                let p = self.shared(at, sp, a, n)?;
                let c = &self.ctas[p.cta];
                out.copy_from_slice(&c.smem[p.o..p.o + n]);
                if c.sinit[p.o..p.o + n].contains(&0) {
                    self.report(self.run.cfg.uninit, at, 0, || {
                        format!("reads uninitialised shared memory at 0x{:x}", p.addr())
                    })?;
                }
            }
            Sp::Global | Sp::Generic => {
                let p = self.global(at, a, n)?;
                unsafe { std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), n) };
            }
            Sp::Param => {
                let o = in_window(a, PARAM_BASE) as usize;
                match self.run.params.get(o..o + n) {
                    Some(s) => out.copy_from_slice(s),
                    None => return self.fail(at, format!("parameter offset {o} is out of bounds")),
                }
            }
            Sp::Local => {
                let o = self.local(at, a, n)?;
                out.copy_from_slice(&self.warps[at.wi].local[o..o + n]);
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, at: At, sp: Sp, a: u64, data: &[u8]) -> R<()> {
        let n = data.len();
        let sp = if sp == Sp::Generic { classify(a) } else { sp };
        if !a.is_multiple_of(n.min(16).next_power_of_two() as u64) {
            return self.fail(at, format!("misaligned {n}-byte store at 0x{a:x}"));
        }
        match sp {
            Sp::Shared | Sp::Cluster => {
                let p = self.shared(at, sp, a, n)?;
                self.shared_write(p, data, Some(self.cta_of(at.wi)));
            }
            Sp::Global | Sp::Generic => {
                let p = self.global(at, a, n)?;
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), p, n) };
            }
            Sp::Local => {
                let o = self.local(at, a, n)?;
                self.warps[at.wi].local[o..o + n].copy_from_slice(data);
            }
            Sp::Param => return self.fail(at, "store to parameter space"),
        }
        Ok(())
    }

    fn local(&self, at: At, a: u64, n: usize) -> R<usize> {
        let o = in_window(a, LOCAL_BASE) as usize;
        if o + n > self.run.local_size {
            return self.fail(at, format!("local offset {o} is out of bounds"));
        }
        Ok(at.l * self.run.local_size + o)
    }

    /// Writes shared memory; `generic`: through the generic proxy, by a thread of this CTA.
    pub(super) fn shared_write(&mut self, p: Loc, data: &[u8], generic: Option<usize>) {
        let n = data.len();
        let c = &mut self.ctas[p.cta];
        c.smem[p.o..p.o + n].copy_from_slice(data);
        c.sinit[p.o..p.o + n].fill(1);
        let Some(writer) = generic else { return };
        for g in p.o / 16..(p.o + n).div_ceil(16) {
            if self.ctas[p.cta].sdirty[g] == 0 {
                self.ctas[p.cta].sdirty[g] = 1;
                let d = (p.cta as u32, g as u32);
                // a fence on either side will do
                self.ctas[p.cta].dirty.push(d);
                if writer != p.cta {
                    self.ctas[writer].dirty.push(d);
                }
            }
        }
    }

    /// In-flight destination: neither the old nor the new contents may be read.
    pub(super) fn poison(&mut self, p: Loc, n: usize) {
        let c = &mut self.ctas[p.cta];
        c.smem[p.o..p.o + n].fill(0xff);
        c.sinit[p.o..p.o + n].fill(0);
    }

    /// fence.proxy.async
    pub(super) fn fence_proxy(&mut self, cta: usize) {
        for (c, g) in std::mem::take(&mut self.ctas[cta].dirty) {
            self.ctas[c as usize].sdirty[g as usize] = 0;
        }
    }

    // ---- instructions -------------------------------------------------------------------------

    pub(super) fn ld(&mut self, pc: u32, wi: usize, rf: Rf, em: u32, op: &Op) -> R<()> {
        let Op::Ld {
            sp,
            bytes,
            addr,
            dst,
        } = op
        else {
            unreachable!()
        };
        let n = *bytes as usize;
        let tot = n * dst.len();
        try_lanes(em, |l| {
            let a = self.ea(rf, addr, l);
            let mut buf = [0u8; 64];
            self.read(At { pc, wi, l }, *sp, a, &mut buf[..tot])?;
            for (i, (s, e)) in dst.iter().enumerate() {
                let b = &buf[i * n..];
                if n == 8 {
                    rf.set64(*s, l, u64::from_le_bytes(b[..8].try_into().unwrap()));
                    continue;
                }
                let v = match n {
                    4 => u32::from_le_bytes(b[..4].try_into().unwrap()),
                    2 => u16::from_le_bytes(b[..2].try_into().unwrap()) as u32,
                    _ => b[0] as u32,
                };
                let sx = || match n {
                    4 => v as i32,
                    2 => v as u16 as i16 as i32,
                    _ => v as u8 as i8 as i32,
                };
                match e {
                    Ext::None => rf.set(*s, l, v),
                    Ext::S32 => rf.set(*s, l, sx() as u32),
                    Ext::Z64 => rf.set64(*s, l, v as u64),
                    Ext::S64 => rf.set64(*s, l, sx() as i64 as u64),
                }
            }
            Ok(())
        })
    }

    pub(super) fn st(&mut self, pc: u32, wi: usize, rf: Rf, em: u32, op: &Op) -> R<()> {
        let Op::St {
            sp,
            bytes,
            addr,
            src,
        } = op
        else {
            unreachable!()
        };
        let n = *bytes as usize;
        try_lanes(em, |l| {
            let mut buf = [0u8; 64];
            pack(rf, src, n, l, &mut buf);
            self.write(
                At { pc, wi, l },
                *sp,
                self.ea(rf, addr, l),
                &buf[..n * src.len()],
            )
        })
    }

    pub(super) fn atom(&mut self, pc: u32, wi: usize, rf: Rf, em: u32, s: &AtomSpec) -> R<()> {
        let n = s.ty.bytes();
        let gm: &'a GlobalMem = self.run.gmem;
        let _lock = gm.lock.lock().unwrap();
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            for (i, b) in s.b.iter().enumerate() {
                let a = self.ea(rf, &s.addr, l) + (i * n) as u64;
                let mut buf = [0u8; 8];
                self.read(at, s.sp, a, &mut buf[..n])?;
                let old = u64::from_le_bytes(buf);
                let get = |x: S| {
                    if n == 8 {
                        rf.get64(x, l)
                    } else {
                        rf.get(x, l) as u64
                    }
                };
                let v = get(*b);
                let msk = if n == 8 { !0 } else { (1u64 << (8 * n)) - 1 };
                let new = match s.op {
                    AtomOp::Exch => v,
                    AtomOp::Cas if old & msk == v & msk => get(s.c),
                    AtomOp::Cas => old,
                    AtomOp::Add => reduce(RedOp::Add, s.ty, old, v),
                    AtomOp::Min => reduce(RedOp::Min, s.ty, old, v),
                    AtomOp::Max => reduce(RedOp::Max, s.ty, old, v),
                    AtomOp::And => reduce(RedOp::And, s.ty, old, v),
                    AtomOp::Or => reduce(RedOp::Or, s.ty, old, v),
                    AtomOp::Xor => reduce(RedOp::Xor, s.ty, old, v),
                    AtomOp::Inc => reduce(RedOp::Inc, s.ty, old, v),
                    AtomOp::Dec => reduce(RedOp::Dec, s.ty, old, v),
                };
                self.write(at, s.sp, a, &new.to_le_bytes()[..n])?;
                if let Some(d) = s.d.get(i) {
                    if n == 8 {
                        rf.set64(*d, l, old)
                    } else {
                        rf.set(*d, l, old as u32)
                    }
                }
            }
            Ok(())
        })
    }

    /// isspacep: lanes whose generic address lies in the space.
    pub(super) fn is_space(&self, wi: usize, rf: Rf, em: u32, sp: Sp, a: S) -> u32 {
        let mut r = 0;
        lanes(em, |l| {
            let a = rf.get64(a, l);
            let rank = (in_window(a, SHARED_BASE) >> RANK_SHIFT) as usize;
            let yes = match (sp, classify(a)) {
                (Sp::Shared, Sp::Cluster) => rank == self.cta_of(wi),
                (Sp::Cluster, Sp::Cluster) => rank < self.ctas.len(),
                (sp, c) => c == sp,
            };
            r |= (yes as u32) << l;
        });
        r
    }

    /// mapa: the address of the same variable in the CTA of another rank.
    pub(super) fn mapa(&self, pc: u32, wi: usize, rf: Rf, em: u32, op: &Op) -> R<()> {
        let Op::Mapa { d, a, rank, w64 } = op else {
            unreachable!()
        };
        try_lanes(em, |l| {
            let r = rf.get(*rank, l);
            if r as usize >= self.ctas.len() {
                return self.fail(
                    At { pc, wi, l },
                    format!("mapa: CTA rank {r} in a cluster of {}", self.ctas.len()),
                );
            }
            let v = if *w64 {
                rf.get64(*a, l)
            } else {
                rf.get(*a, l) as u64
            };
            let v = v & !(0xff << RANK_SHIFT) | (r as u64) << RANK_SHIFT;
            if *w64 {
                rf.set64(*d, l, v)
            } else {
                rf.set(*d, l, v as u32)
            }
            Ok(())
        })
    }
}

/// The bytes of registers `src`, `n` each.
pub fn pack(rf: Rf, src: &[S], n: usize, l: usize, buf: &mut [u8; 64]) {
    for (i, s) in src.iter().enumerate() {
        match n {
            8 => buf[i * 8..i * 8 + 8].copy_from_slice(&rf.get64(*s, l).to_le_bytes()),
            _ => buf[i * n..i * n + n].copy_from_slice(&rf.get(*s, l).to_le_bytes()[..n]),
        }
    }
}
