//! Instructions that only touch the registers and predicates of their own lane.
use super::memory::window;
use crate::alu::*;
use crate::ir::*;

/// The predicate file of a warp, one bit per lane.
#[derive(Clone, Copy)]
pub struct Preds(pub *mut u32);

impl Preds {
    #[inline(always)]
    pub fn get(self, s: PSrc) -> u32 {
        let v = unsafe { *self.0.add(s.p as usize) };
        if s.neg { !v } else { v }
    }
    #[inline(always)]
    pub fn set(self, p: u32, em: u32, v: u32) {
        unsafe {
            let q = self.0.add(p as usize);
            *q = (*q & !em) | (v & em);
        }
    }
}

/// Executes `op` for the lanes in `em`; an error names the lane.
pub fn lane_op(op: &Op, rf: Rf, ps: Preds, em: u32, cc: &mut u32) -> Result<(), (usize, String)> {
    match op {
        Op::Mov32(d, a) => un(rf, em, *d, *a, |x| x),
        Op::Mov64(d, a) => {
            un(rf, em, *d, *a, |x| x);
            un(rf, em, *d + 1, *a + 1, |x| x);
        }
        Op::Pack64(d, a, b) => lanes(em, |l| {
            let v = rf.get(*a, l) as u64 | (rf.get(*b, l) as u64) << 32;
            rf.set64(*d, l, v)
        }),
        Op::Unpack64(x, y, a) => lanes(em, |l| {
            let v = rf.get64(*a, l);
            rf.set(*x, l, v as u32);
            rf.set(*y, l, (v >> 32) as u32);
        }),
        Op::Pack16(d, a, b) => bin(rf, em, *d, *a, *b, |x, y| (x & 0xffff) | y << 16),
        Op::Unpack16(x, y, a) => lanes(em, |l| {
            let v = rf.get(*a, l);
            rf.set(*x, l, v & 0xffff);
            rf.set(*y, l, v >> 16);
        }),
        Op::Pack64x4(d, s) => lanes(em, |l| {
            let v = (0..4).fold(0u64, |r, i| {
                r | ((rf.get(s[i], l) & 0xffff) as u64) << (16 * i)
            });
            rf.set64(*d, l, v)
        }),
        Op::Unpack64x4(d, s) => lanes(em, |l| {
            let v = rf.get64(*s, l);
            for i in 0..4 {
                rf.set(d[i], l, (v >> (16 * i)) as u32 & 0xffff);
            }
        }),
        Op::ActiveMask(d) => lanes(em, |l| rf.set(*d, l, em)),
        Op::B32(op, d, a, b) => match op {
            B2::Add => bin(rf, em, *d, *a, *b, |x, y| x.wrapping_add(y)),
            B2::Sub => bin(rf, em, *d, *a, *b, |x, y| x.wrapping_sub(y)),
            B2::And => bin(rf, em, *d, *a, *b, |x, y| x & y),
            B2::Or => bin(rf, em, *d, *a, *b, |x, y| x | y),
            B2::Xor => bin(rf, em, *d, *a, *b, |x, y| x ^ y),
            B2::Mul => bin(rf, em, *d, *a, *b, |x, y| x.wrapping_mul(y)),
            op => bin(rf, em, *d, *a, *b, |x, y| i32_bin(*op, x, y)),
        },
        Op::F32(op, fl, d, a, b) => {
            if fl.plain() {
                match op {
                    B2::FAdd => bin(rf, em, *d, *a, *b, |x, y| (fb(x) + fb(y)).to_bits()),
                    B2::FSub => bin(rf, em, *d, *a, *b, |x, y| (fb(x) - fb(y)).to_bits()),
                    B2::FMul => bin(rf, em, *d, *a, *b, |x, y| (fb(x) * fb(y)).to_bits()),
                    B2::FMin => bin(rf, em, *d, *a, *b, |x, y| fmin(fb(x), fb(y)).to_bits()),
                    B2::FMax => bin(rf, em, *d, *a, *b, |x, y| fmax(fb(x), fb(y)).to_bits()),
                    op => bin(rf, em, *d, *a, *b, |x, y| {
                        f32_bin(*op, *fl, fb(x), fb(y)).to_bits()
                    }),
                }
            } else {
                bin(rf, em, *d, *a, *b, |x, y| {
                    f32_bin(*op, *fl, fb(x), fb(y)).to_bits()
                })
            }
        }
        Op::B16(op, signed, d, a, b) => {
            let shift = matches!(op, B2::Shl | B2::ShrS | B2::ShrU);
            bin(rf, em, *d, *a, *b, |x, y| {
                let sx = |v: u32| {
                    if *signed {
                        v as u16 as i16 as i32 as u32
                    } else {
                        v & 0xffff
                    }
                };
                match op {
                    B2::MulHiS | B2::MulHiU => sx(x).wrapping_mul(sx(y)) >> 16 & 0xffff,
                    B2::AddSat => (x as u16 as i16).saturating_add(y as u16 as i16) as u16 as u32,
                    B2::SubSat => (x as u16 as i16).saturating_sub(y as u16 as i16) as u16 as u32,
                    _ => i32_bin(*op, sx(x), if shift { y } else { sx(y) }) & 0xffff,
                }
            })
        }
        Op::B64(op, d, a, b) => match op {
            B2::Add => bin64(rf, em, *d, *a, *b, |x, y| x.wrapping_add(y)),
            op => bin64(rf, em, *d, *a, *b, |x, y| i64_bin(*op, x, y)),
        },
        Op::F64(op, d, a, b) => bin64(rf, em, *d, *a, *b, |x, y| f64_bin(*op, x, y)),
        Op::H2(op, ty, d, a, b) => bin(rf, em, *d, *a, *b, |x, y| half_bin(*op, *ty, x, y)),
        Op::U32(op, d, a) => un(rf, em, *d, *a, |x| u32_un(*op, x)),
        Op::UF32(op, fl, d, a) => match op {
            U1::FNeg => un(rf, em, *d, *a, |x| x ^ 0x8000_0000),
            U1::Ex2 => un(rf, em, *d, *a, |x| {
                let v = if fl.ftz { flush(fb(x)) } else { fb(x) };
                let r = v.exp2();
                (if fl.ftz { flush(r) } else { r }).to_bits()
            }),
            op => un(rf, em, *d, *a, |x| f32_un(*op, *fl, fb(x)).to_bits()),
        },
        Op::UH(op, ty, d, a) => un(rf, em, *d, *a, |x| half_un(*op, *ty, x)),
        Op::U64(op, d, a, f) => lanes(em, |l| {
            let x = rf.get64(*a, l);
            match op {
                U1::Popc => rf.set(*d, l, x.count_ones()),
                U1::Clz => rf.set(*d, l, x.leading_zeros()),
                U1::BfindU | U1::BfindS | U1::BfindShU | U1::BfindShS => {
                    let v = if matches!(op, U1::BfindS | U1::BfindShS) && (x as i64) < 0 {
                        !x
                    } else {
                        x
                    };
                    let sh = matches!(op, U1::BfindShU | U1::BfindShS);
                    let z = v.leading_zeros();
                    rf.set(
                        *d,
                        l,
                        if v == 0 {
                            !0
                        } else if sh {
                            z
                        } else {
                            63 - z
                        },
                    )
                }
                U1::Neg => rf.set64(*d, l, x.wrapping_neg()),
                U1::Not => rf.set64(*d, l, !x),
                U1::Cnot => rf.set64(*d, l, (x == 0) as u64),
                U1::Brev => rf.set64(*d, l, x.reverse_bits()),
                U1::AbsS => rf.set64(*d, l, (x as i64).wrapping_abs() as u64),
                _ => {
                    let v = f64::from_bits(x);
                    let r = match op {
                        U1::FNeg => -v,
                        U1::FAbs => v.abs(),
                        U1::Rcp => 1.0 / v,
                        U1::Sqrt => v.sqrt(),
                        U1::Rsqrt => 1.0 / v.sqrt(),
                        _ => v,
                    };
                    let _ = f;
                    rf.set64(*d, l, r.to_bits())
                }
            }
        }),
        Op::T32(op, d, a, b, c) => match op {
            T3::Mad => tri(rf, em, *d, *a, *b, *c, |x, y, z| {
                x.wrapping_mul(y).wrapping_add(z)
            }),
            op => tri(rf, em, *d, *a, *b, *c, |x, y, z| t32(*op, x, y, z)),
        },
        Op::TF32(op, fl, d, a, b, c) => {
            if fl.plain() && *op == T3::Fma {
                tri(rf, em, *d, *a, *b, *c, |x, y, z| {
                    fma32(fb(x), fb(y), fb(z)).to_bits()
                })
            } else {
                tri(rf, em, *d, *a, *b, *c, |x, y, z| {
                    let f = |v: u32| if fl.ftz { flush(fb(v)) } else { fb(v) };
                    let (x, y, z) = (f(x), f(y), f(z));
                    let r = match op {
                        T3::FMin3 => fmin(fmin(x, y), z),
                        T3::FMax3 => fmax(fmax(x, y), z),
                        _ if fl.rnd == Rnd::Rn => fma32(x, y, z),
                        _ => round32((x as f64).mul_add(y as f64, z as f64), fl.rnd),
                    };
                    let r = if fl.ftz { flush(r) } else { r };
                    let r = if fl.sat { sat(r) } else { r };
                    (if *op == T3::FmaRelu && r < 0.0 {
                        0.0
                    } else {
                        r
                    })
                    .to_bits()
                })
            }
        }
        Op::T16(op, d, a, b, c) => tri(rf, em, *d, *a, *b, *c, |x, y, z| {
            t32(*op, x & 0xffff, y & 0xffff, z & 0xffff) & 0xffff
        }),
        Op::T64(op, d, a, b, c) => lanes(em, |l| {
            let (x, y) = (rf.get64(*a, l), rf.get64(*b, l));
            let r = match op {
                T3::Fma => f64::from_bits(x)
                    .mul_add(f64::from_bits(y), f64::from_bits(rf.get64(*c, l)))
                    .to_bits(),
                T3::MadHiS => i64_bin(B2::MulHiS, x, y).wrapping_add(rf.get64(*c, l)),
                T3::MadHiU => i64_bin(B2::MulHiU, x, y).wrapping_add(rf.get64(*c, l)),
                T3::BfeU | T3::BfeS => {
                    let (p, n) = (rf.get(*b, l) & 255, rf.get(*c, l) & 255);
                    let v = x.checked_shr(p).unwrap_or(0);
                    let m = if n >= 64 { !0 } else { (1u64 << n) - 1 };
                    let s = *op == T3::BfeS && n > 0 && (x >> (p + n - 1).min(63)) & 1 == 1;
                    (v & m) | if s { !m } else { 0 }
                }
                _ => x.wrapping_mul(y).wrapping_add(rf.get64(*c, l)),
            };
            rf.set64(*d, l, r)
        }),
        Op::TH(op, ty, d, a, b, c) => tri(rf, em, *d, *a, *b, *c, |x, y, z| {
            half_fma(*ty, *op == T3::FmaRelu, x, y, z)
        }),
        Op::Lop3(t, d, a, b, c) => tri(rf, em, *d, *a, *b, *c, |x, y, z| {
            let mut r = 0;
            for i in 0..8 {
                if t >> i & 1 == 1 {
                    let p = if i & 4 != 0 { x } else { !x };
                    let q = if i & 2 != 0 { y } else { !y };
                    let s = if i & 1 != 0 { z } else { !z };
                    r |= p & q & s;
                }
            }
            r
        }),
        Op::Bfi(d, a, b, p, n, w64) => lanes(em, |l| {
            let (p, n) = (rf.get(*p, l) & 255, rf.get(*n, l) & 255);
            if *w64 {
                let (x, y) = (rf.get64(*a, l), rf.get64(*b, l));
                let m = if n >= 64 { !0 } else { (1u64 << n) - 1 }
                    .checked_shl(p)
                    .unwrap_or(0);
                rf.set64(*d, l, (y & !m) | (x.checked_shl(p).unwrap_or(0) & m))
            } else {
                let (x, y) = (rf.get(*a, l), rf.get(*b, l));
                let m = if n >= 32 { !0 } else { (1u32 << n) - 1 }
                    .checked_shl(p)
                    .unwrap_or(0);
                rf.set(*d, l, (y & !m) | (x.checked_shl(p).unwrap_or(0) & m))
            }
        }),
        Op::MulWide(signed, w16, d, a, b) => lanes(em, |l| {
            let (x, y) = (rf.get(*a, l), rf.get(*b, l));
            if *w16 {
                let s = |v: u32| {
                    if *signed {
                        v as u16 as i16 as i32 as u32
                    } else {
                        v & 0xffff
                    }
                };
                rf.set(*d, l, s(x).wrapping_mul(s(y)));
            } else {
                let v = if *signed {
                    (x as i32 as i64 * y as i32 as i64) as u64
                } else {
                    x as u64 * y as u64
                };
                rf.set64(*d, l, v);
            }
        }),
        Op::MadWide(signed, w16, d, a, b, c) => lanes(em, |l| {
            let (x, y) = (rf.get(*a, l), rf.get(*b, l));
            if *w16 {
                let s = |v: u32| {
                    if *signed {
                        v as u16 as i16 as i32 as u32
                    } else {
                        v & 0xffff
                    }
                };
                rf.set(*d, l, s(x).wrapping_mul(s(y)).wrapping_add(rf.get(*c, l)));
            } else {
                let v = if *signed {
                    (x as i32 as i64 * y as i32 as i64) as u64
                } else {
                    x as u64 * y as u64
                };
                rf.set64(*d, l, v.wrapping_add(rf.get64(*c, l)));
            }
        }),
        Op::AddC {
            sub,
            cin,
            cout,
            w64,
            d,
            a,
            b,
        } => {
            lanes(em, |l| {
                let c = if *cin { (*cc >> l & 1) as i128 } else { 0 };
                let (x, y) = if *w64 {
                    (rf.get64(*a, l), rf.get64(*b, l))
                } else {
                    (rf.get(*a, l) as u64, rf.get(*b, l) as u64)
                };
                let r = if *sub {
                    x as i128 - y as i128 - c
                } else {
                    x as i128 + y as i128 + c
                };
                if *w64 {
                    rf.set64(*d, l, r as u64)
                } else {
                    rf.set(*d, l, r as u32)
                }
                if *cout {
                    let o = if *sub {
                        r < 0
                    } else {
                        r >> if *w64 { 64 } else { 32 } != 0
                    };
                    *cc = *cc & !(1 << l) | (o as u32) << l;
                }
            });
        }
        Op::SetpI32 {
            cmp,
            signed,
            p,
            a,
            b,
        } => {
            let (x, y) = unsafe { (&*rf.p(*a), &*rf.p(*b)) };
            let mut r = 0u32;
            if *signed {
                for l in 0..32 {
                    r |= (cmp_i(*cmp, x[l] as i32, y[l] as i32) as u32) << l;
                }
            } else {
                for l in 0..32 {
                    r |= (cmp_i(*cmp, x[l], y[l]) as u32) << l;
                }
            }
            ps.set(*p, em, r);
        }
        Op::Setp(s) => {
            let r = compare(rf, s, em);
            let nr = !r;
            let (mut x, mut y) = (r, nr);
            if let Some((b, c)) = s.c {
                let c = ps.get(c);
                let f = |v: u32| match b {
                    PBool::And => v & c,
                    PBool::Or => v | c,
                    PBool::Xor => v ^ c,
                };
                x = f(x);
                y = f(y);
            }
            ps.set(s.p, em, x);
            ps.set(s.q, em, y);
        }
        Op::Set(s, d, f) => {
            let r = compare(rf, s, em);
            let c = s.c.map(|(b, c)| (b, ps.get(c)));
            let r = match c {
                Some((PBool::And, c)) => r & c,
                Some((PBool::Or, c)) => r | c,
                Some((PBool::Xor, c)) => r ^ c,
                None => r,
            };
            let t = if *f { 1f32.to_bits() } else { !0 };
            lanes(em, |l| rf.set(*d, l, if r >> l & 1 == 1 { t } else { 0 }));
        }
        Op::Selp32(d, a, b, p) => {
            let p = ps.get(*p);
            lanes(em, |l| {
                rf.set(*d, l, rf.get(if p >> l & 1 == 1 { *a } else { *b }, l))
            });
        }
        Op::Selp64(d, a, b, p) => {
            let p = ps.get(*p);
            lanes(em, |l| {
                rf.set64(*d, l, rf.get64(if p >> l & 1 == 1 { *a } else { *b }, l))
            });
        }
        Op::Slct(d, a, b, c, f) => lanes(em, |l| {
            let x = rf.get(*c, l);
            let t = if *f { fb(x) >= 0.0 } else { x as i32 >= 0 };
            rf.set(*d, l, rf.get(if t { *a } else { *b }, l))
        }),
        Op::PBin(o, p, a, b) => {
            let (x, y) = (ps.get(*a), ps.get(*b));
            let v = match o {
                PBool::And => x & y,
                PBool::Or => x | y,
                PBool::Xor => x ^ y,
            };
            ps.set(*p, em, v);
        }
        Op::PMov(p, a) => ps.set(*p, em, ps.get(*a)),
        Op::PImm(p, v) => ps.set(*p, em, if *v { !0 } else { 0 }),
        Op::CvtPackBf16 { d, hi, lo } => {
            bin(rf, em, *d, *hi, *lo, |h, l| bf16_rn(h) << 16 | bf16_rn(l))
        }
        Op::Cvt64From32 { d, a, signed } => {
            un(rf, em, *d + 1, *a, |x| {
                if *signed {
                    ((x as i32) >> 31) as u32
                } else {
                    0
                }
            });
            un(rf, em, *d, *a, |x| x);
        }
        Op::Cvt(c) => {
            let mut e = None;
            lanes(em, |l| {
                if let Err(m) = cvt(rf, c, l) {
                    e = Some((l, m));
                }
            });
            if let Some((l, m)) = e {
                return Err((l, m));
            }
        }
        Op::CvtaTo(sp, d, a, w64) => {
            let base = window(*sp);
            lanes(em, |l| {
                if *w64 {
                    rf.set64(*d, l, rf.get64(*a, l).wrapping_sub(base))
                } else {
                    rf.set(*d, l, rf.get(*a, l))
                }
            });
        }
        Op::CvtaFrom(sp, d, a, w64) => {
            let base = window(*sp);
            lanes(em, |l| {
                if *w64 {
                    rf.set64(*d, l, rf.get64(*a, l).wrapping_add(base))
                } else {
                    rf.set(*d, l, rf.get(*a, l))
                }
            });
        }
        _ => unreachable!("handled by the interpreter loop"),
    }
    Ok(())
}

fn compare(rf: Rf, s: &SetpSpec, em: u32) -> u32 {
    let mut r = 0u32;
    lanes(em, |l| {
        let t = match s.ty {
            Ty::S32 => cmp_i(s.cmp, rf.get(s.a, l) as i32, rf.get(s.b, l) as i32),
            Ty::U32 | Ty::B32 => cmp_i(s.cmp, rf.get(s.a, l), rf.get(s.b, l)),
            Ty::S64 => cmp_i(s.cmp, rf.get64(s.a, l) as i64, rf.get64(s.b, l) as i64),
            Ty::U64 | Ty::B64 => cmp_i(s.cmp, rf.get64(s.a, l), rf.get64(s.b, l)),
            Ty::S16 => cmp_i(
                s.cmp,
                rf.get(s.a, l) as u16 as i16,
                rf.get(s.b, l) as u16 as i16,
            ),
            Ty::U16 | Ty::B16 => cmp_i(s.cmp, rf.get(s.a, l) as u16, rf.get(s.b, l) as u16),
            Ty::F32 => {
                let f = |x: u32| if s.ftz { flush(fb(x)) } else { fb(x) } as f64;
                cmp_f(s.cmp, f(rf.get(s.a, l)), f(rf.get(s.b, l)))
            }
            Ty::F64 => cmp_f(
                s.cmp,
                f64::from_bits(rf.get64(s.a, l)),
                f64::from_bits(rf.get64(s.b, l)),
            ),
            Ty::F16 => {
                let f = |x: u32| half::f16::from_bits(x as u16).to_f64();
                cmp_f(s.cmp, f(rf.get(s.a, l)), f(rf.get(s.b, l)))
            }
            _ => {
                let f = |x: u32| half::bf16::from_bits(x as u16).to_f64();
                cmp_f(s.cmp, f(rf.get(s.a, l)), f(rf.get(s.b, l)))
            }
        };
        r |= (t as u32) << l;
    });
    r
}

fn cvt(rf: Rf, c: &CvtSpec, l: usize) -> Result<(), String> {
    if c.b != NO {
        let to = if c.to == Ty::BF16x2 {
            Ty::BF16
        } else if c.to == Ty::F16x2 {
            Ty::F16
        } else {
            return Err("unsupported packed conversion".into());
        };
        let hi = cvt_one(c, c.from, to, rf.get(c.a, l) as u64)?;
        let lo = cvt_one(c, c.from, to, rf.get(c.b, l) as u64)?;
        rf.set(c.d, l, (hi << 16 | lo) as u32);
        return Ok(());
    }
    let raw = if c.from.bytes() == 8 {
        rf.get64(c.a, l)
    } else {
        rf.get(c.a, l) as u64
    };
    if c.to == Ty::F16x2 && matches!(c.from, Ty::E4M3 | Ty::E5M2) {
        return Err("packed fp8 conversions are not supported".into());
    }
    let v = cvt_one(c, c.from, c.to, raw)?;
    if c.to.bytes() == 8 || c.d64 {
        let v = if c.to.signed() && c.to.bytes() < 8 {
            let s = 64 - c.to.bytes() * 8;
            (((v << s) as i64) >> s) as u64
        } else {
            v
        };
        rf.set64(c.d, l, v);
    } else {
        // narrow signed results are sign-extended to the register
        let v = match c.to {
            Ty::S8 => v as u8 as i8 as i32 as u32,
            Ty::S16 => v as u16 as i16 as i32 as u32,
            _ => v as u32,
        };
        rf.set(c.d, l, v);
    }
    Ok(())
}
