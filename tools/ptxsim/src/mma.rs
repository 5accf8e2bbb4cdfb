//! Matrix fragments: `mma.sync`, `wgmma` and shared-memory matrix descriptors.
use crate::alu::Rf;
use crate::ir::*;
use crate::mem::Swizzle;
use half::{bf16, f16};

/// A decoded wgmma matrix descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Desc {
    pub start: u64,
    pub lbo: u64,
    pub sbo: u64,
    pub base_offset: u64,
    pub swizzle: Swizzle,
}

impl Desc {
    pub fn decode(d: u64) -> Desc {
        Desc {
            start: (d & 0x3fff) << 4,
            lbo: ((d >> 16) & 0x3fff) << 4,
            sbo: ((d >> 32) & 0x3fff) << 4,
            base_offset: (d >> 49) & 7,
            swizzle: match d >> 62 {
                0 => Swizzle::None,
                1 => Swizzle::B128,
                2 => Swizzle::B64,
                _ => Swizzle::B32,
            },
        }
    }

    /// Shared address of a 16-byte unit. K-major: `o` is the M/N row, `u` the unit along K.
    /// MN-major: `o` is the K index, `u` the unit along M/N.
    ///
    /// Canonical layouts in 16-byte units (W = swizzle bytes / 16):
    ///   K-major:  none ((8,n),2):((1,SBO),LBO)      swizzled ((8,n),2):((W,SBO),1)
    ///   MN-major: none ((1,n),(8,k)):((-,SBO),(1,LBO))  swizzled ((W,n),(8,k)):((1,LBO),(W,SBO))
    #[inline]
    pub fn address(&self, mn_major: bool, o: usize, u: usize) -> u64 {
        let (o, u) = (o as u64, u as u64);
        let (oi, og) = (o % 8, o / 8);
        let off = match (self.swizzle, mn_major) {
            (Swizzle::None, false) => oi * 16 + og * self.sbo + u * self.lbo,
            (Swizzle::None, true) => oi * 16 + og * self.lbo + u * self.sbo,
            (s, false) => oi * s.bytes() as u64 + og * self.sbo + u * 16,
            (s, true) => {
                let w = s.bytes() as u64 / 16;
                oi * s.bytes() as u64 + og * self.sbo + (u % w) * 16 + (u / w) * self.lbo
            }
        };
        // the address is formed modulo the 18 bits of the window, then swizzled on its own bits
        let a = self.start + off;
        let m = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        };
        a ^ ((((a >> 7).wrapping_sub(self.base_offset)) & m) << 4)
    }
}

/// One warp's 16 rows of a wgmma. `a`: `[k][64]`, or None for register fragments; `b`: `[k][n]`.
pub fn wgmma_warp(rf: Rf, s: &WgSpec, warp: usize, a: Option<&[f32]>, b: &[f32], scale_d: bool) {
    let n = s.n;
    let kk = s.k;
    let mut at = [[0f32; 16]; 16]; // [row][k]
    match (&s.a, a) {
        (WgA::Desc(_), Some(a)) => {
            for (r, row) in at.iter_mut().enumerate() {
                for (k, x) in row.iter_mut().take(kk).enumerate() {
                    *x = a[k * 64 + warp * 16 + r];
                }
            }
        }
        (WgA::Regs(v), _) => frag_a(rf, v, s.ty, kk, &mut at),
        _ => {}
    }
    if s.neg_a != s.neg_b {
        at.iter_mut().flatten().for_each(|x| *x = -*x);
    }
    let mut acc = vec![0f32; 16 * n];
    if scale_d {
        for (i, d) in s.d.iter().enumerate() {
            let v = unsafe { *rf.p(*d) };
            for (l, v) in v.iter().enumerate() {
                if s.d16 {
                    let (r, c) = (l / 4 + 8 * (i % 2), 8 * (i / 2) + 2 * (l % 4));
                    acc[r * n + c] = f16::from_bits(*v as u16).to_f32();
                    acc[r * n + c + 1] = f16::from_bits((*v >> 16) as u16).to_f32();
                } else {
                    let (r, c) = (l / 4 + 8 * ((i / 2) % 2), 8 * (i / 4) + 2 * (l % 4) + i % 2);
                    acc[r * n + c] = f32::from_bits(*v);
                }
            }
        }
    }
    for (row, arow) in acc.chunks_exact_mut(n).zip(&at) {
        for k in 0..kk {
            let x = arow[k];
            for (c, y) in row.iter_mut().zip(&b[k * n..k * n + n]) {
                *c += x * y;
            }
        }
    }
    for (i, d) in s.d.iter().enumerate() {
        let v = unsafe { &mut *rf.p(*d) };
        for (l, v) in v.iter_mut().enumerate() {
            if s.d16 {
                let (r, c) = (l / 4 + 8 * (i % 2), 8 * (i / 2) + 2 * (l % 4));
                *v = f16::from_f32(acc[r * n + c]).to_bits() as u32
                    | (f16::from_f32(acc[r * n + c + 1]).to_bits() as u32) << 16;
            } else {
                let (r, c) = (l / 4 + 8 * ((i / 2) % 2), 8 * (i / 4) + 2 * (l % 4) + i % 2);
                *v = acc[r * n + c].to_bits();
            }
        }
    }
}

fn h(ty: Ty, v: u32) -> f32 {
    match ty {
        Ty::BF16 => bf16::from_bits(v as u16).to_f32(),
        Ty::F16 => f16::from_bits(v as u16).to_f32(),
        _ => f32::from_bits(v & !0x1fff),
    }
}

/// The 16 x k A fragment of m16n8k16 (and of wgmma's register A), m16n8k8 and the tf32 shapes.
fn frag_a(rf: Rf, v: &[S], ty: Ty, kk: usize, at: &mut [[f32; 16]; 16]) {
    for (i, s) in v.iter().enumerate() {
        for l in 0..32 {
            let x = rf.get(*s, l);
            let (g, t) = (l / 4, l % 4);
            let r = g + 8 * (i % 2);
            if ty == Ty::TF32 {
                at[r][t + 4 * (i / 2)] = h(ty, x);
            } else {
                let c = 2 * t + 8 * (i / 2);
                at[r][c] = h(ty, x & 0xffff);
                at[r][c + 1] = h(ty, x >> 16);
            }
        }
    }
    let _ = kk;
}

pub fn mma_sync(rf: Rf, s: &MmaSpec) {
    let mut a = [[0f32; 16]; 16];
    frag_a(rf, &s.a, s.ty, s.k, &mut a);
    let mut b = [[0f32; 8]; 16];
    for (i, x) in s.b.iter().enumerate() {
        for l in 0..32 {
            let v = rf.get(*x, l);
            let (g, t) = (l / 4, l % 4);
            if s.ty == Ty::TF32 {
                b[t + 4 * i][g] = h(s.ty, v);
            } else {
                b[2 * t + 8 * i][g] = h(s.ty, v & 0xffff);
                b[2 * t + 1 + 8 * i][g] = h(s.ty, v >> 16);
            }
        }
    }
    let mut c = [[0f32; 8]; 16];
    for (i, x) in s.c.iter().enumerate() {
        for l in 0..32 {
            let v = rf.get(*x, l);
            let (g, t) = (l / 4, l % 4);
            if s.c16 {
                c[g + 8 * i][2 * t] = f16::from_bits(v as u16).to_f32();
                c[g + 8 * i][2 * t + 1] = f16::from_bits((v >> 16) as u16).to_f32();
            } else {
                c[g + 8 * (i / 2)][2 * t + i % 2] = f32::from_bits(v);
            }
        }
    }
    for r in 0..16 {
        for k in 0..s.k {
            for n in 0..8 {
                c[r][n] += a[r][k] * b[k][n];
            }
        }
    }
    for (i, x) in s.d.iter().enumerate() {
        for l in 0..32 {
            let (g, t) = (l / 4, l % 4);
            let v = if s.d16 {
                let r = g + 8 * i;
                f16::from_f32(c[r][2 * t]).to_bits() as u32
                    | (f16::from_f32(c[r][2 * t + 1]).to_bits() as u32) << 16
            } else {
                c[g + 8 * (i / 2)][2 * t + i % 2].to_bits()
            };
            rf.set(*x, l, v);
        }
    }
}
