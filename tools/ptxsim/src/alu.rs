//! Lane-wise arithmetic helpers.
use crate::ir::*;
use half::{bf16, f16};

/// The register file of a warp.
#[derive(Clone, Copy)]
pub struct Rf(pub *mut [u32; 32]);

impl Rf {
    #[inline(always)]
    pub fn p(self, s: S) -> *mut [u32; 32] {
        unsafe { self.0.add(s as usize) }
    }
    #[inline(always)]
    pub fn get(self, s: S, l: usize) -> u32 {
        unsafe { (*self.p(s))[l] }
    }
    #[inline(always)]
    pub fn set(self, s: S, l: usize, v: u32) {
        unsafe { (*self.p(s))[l] = v }
    }
    #[inline(always)]
    pub fn get64(self, s: S, l: usize) -> u64 {
        self.get(s, l) as u64 | (self.get(s + 1, l) as u64) << 32
    }
    #[inline(always)]
    pub fn set64(self, s: S, l: usize, v: u64) {
        self.set(s, l, v as u32);
        self.set(s + 1, l, (v >> 32) as u32);
    }
}

#[inline(always)]
pub fn lanes(mut m: u32, mut f: impl FnMut(usize)) {
    while m != 0 {
        f(m.trailing_zeros() as usize);
        m &= m - 1;
    }
}

#[inline(always)]
pub fn un(rf: Rf, em: u32, d: S, a: S, f: impl Fn(u32) -> u32) {
    if em == !0 {
        unsafe {
            let x = *rf.p(a);
            let mut z = [0u32; 32];
            for i in 0..32 {
                z[i] = f(x[i]);
            }
            *rf.p(d) = z;
        }
    } else {
        lanes(em, |l| rf.set(d, l, f(rf.get(a, l))));
    }
}

#[inline(always)]
pub fn bin(rf: Rf, em: u32, d: S, a: S, b: S, f: impl Fn(u32, u32) -> u32) {
    if em == !0 {
        unsafe {
            let x = *rf.p(a);
            let y = *rf.p(b);
            let mut z = [0u32; 32];
            for i in 0..32 {
                z[i] = f(x[i], y[i]);
            }
            *rf.p(d) = z;
        }
    } else {
        lanes(em, |l| rf.set(d, l, f(rf.get(a, l), rf.get(b, l))));
    }
}

#[inline(always)]
pub fn tri(rf: Rf, em: u32, d: S, a: S, b: S, c: S, f: impl Fn(u32, u32, u32) -> u32) {
    if em == !0 {
        unsafe {
            let x = *rf.p(a);
            let y = *rf.p(b);
            let w = *rf.p(c);
            let mut z = [0u32; 32];
            for i in 0..32 {
                z[i] = f(x[i], y[i], w[i]);
            }
            *rf.p(d) = z;
        }
    } else {
        lanes(em, |l| {
            rf.set(d, l, f(rf.get(a, l), rf.get(b, l), rf.get(c, l)))
        });
    }
}

#[inline(always)]
pub fn bin64(rf: Rf, em: u32, d: S, a: S, b: S, f: impl Fn(u64, u64) -> u64) {
    lanes(em, |l| rf.set64(d, l, f(rf.get64(a, l), rf.get64(b, l))));
}

#[inline(always)]
pub fn fb(x: u32) -> f32 {
    f32::from_bits(x)
}

#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0f32.copysign(x)
    } else {
        x
    }
}

#[inline(always)]
pub fn fma32(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_feature = "fma") {
        a.mul_add(b, c)
    } else {
        (a as f64 * b as f64 + c as f64) as f32
    }
}

/// Directed rounding of an (almost exact) f64 to f32.
pub fn round32(x: f64, r: Rnd) -> f32 {
    let y = x as f32;
    if y.is_nan() || y as f64 == x {
        return y;
    }
    match r {
        Rnd::Rz => {
            if (y as f64).abs() > x.abs() {
                toward_zero(y)
            } else {
                y
            }
        }
        Rnd::Rm => {
            if (y as f64) > x {
                y.next_down()
            } else {
                y
            }
        }
        Rnd::Rp => {
            if (y as f64) < x {
                y.next_up()
            } else {
                y
            }
        }
        _ => y,
    }
}

fn toward_zero(y: f32) -> f32 {
    f32::from_bits(y.to_bits() - 1)
}

pub fn f32_bin(op: B2, fl: Fl, a: f32, b: f32) -> f32 {
    let (a, b) = if fl.ftz { (flush(a), flush(b)) } else { (a, b) };
    let r = if fl.rnd == Rnd::Rn {
        match op {
            B2::FAdd => a + b,
            B2::FSub => a - b,
            B2::FMul => a * b,
            B2::FDiv => a / b,
            B2::FMin => fmin(a, b),
            B2::FMax => fmax(a, b),
            B2::FMinNan => {
                if a.is_nan() || b.is_nan() {
                    f32::NAN
                } else {
                    fmin(a, b)
                }
            }
            B2::FMaxNan => {
                if a.is_nan() || b.is_nan() {
                    f32::NAN
                } else {
                    fmax(a, b)
                }
            }
            B2::Copysign => b.copysign(a),
            _ => unreachable!(),
        }
    } else {
        let (x, y) = (a as f64, b as f64);
        round32(
            match op {
                B2::FAdd => x + y,
                B2::FSub => x - y,
                B2::FMul => x * y,
                _ => x / y,
            },
            fl.rnd,
        )
    };
    let r = if fl.ftz { flush(r) } else { r };
    if fl.sat { sat(r) } else { r }
}

pub fn sat(r: f32) -> f32 {
    if r.is_nan() { 0.0 } else { r.clamp(0.0, 1.0) }
}

#[inline(always)]
pub fn fmin(a: f32, b: f32) -> f32 {
    if b < a || a.is_nan() || (a == b && b.is_sign_negative()) {
        b
    } else {
        a
    }
}
#[inline(always)]
pub fn fmax(a: f32, b: f32) -> f32 {
    if b > a || a.is_nan() || (a == b && a.is_sign_negative()) {
        b
    } else {
        a
    }
}

pub fn f32_un(op: U1, fl: Fl, a: f32) -> f32 {
    let a = if fl.ftz { flush(a) } else { a };
    let r = match op {
        U1::FNeg => -a,
        U1::FAbs => a.abs(),
        U1::Ex2 => a.exp2(),
        U1::Lg2 => a.log2(),
        U1::Rcp => 1.0 / a,
        U1::Rsqrt => (1.0 / (a as f64).sqrt()) as f32,
        U1::Sqrt => a.sqrt(),
        U1::Sin => (a as f64).sin() as f32,
        U1::Cos => (a as f64).cos() as f32,
        U1::Tanh => (a as f64).tanh() as f32,
        _ => a,
    };
    let r = if fl.ftz { flush(r) } else { r };
    if fl.sat { sat(r) } else { r }
}

pub fn u32_un(op: U1, a: u32) -> u32 {
    match op {
        U1::Neg => a.wrapping_neg(),
        U1::Not => !a,
        U1::Cnot => (a == 0) as u32,
        U1::AbsS => (a as i32).wrapping_abs() as u32,
        U1::Popc => a.count_ones(),
        U1::Clz => a.leading_zeros(),
        U1::Brev => a.reverse_bits(),
        U1::BfindU => 31u32.wrapping_sub(a.leading_zeros()) | if a == 0 { !0 } else { 0 },
        U1::BfindShU | U1::BfindShS => match u32_un(
            if op == U1::BfindShU {
                U1::BfindU
            } else {
                U1::BfindS
            },
            a,
        ) {
            u32::MAX => u32::MAX,
            v => 31 - v,
        },
        U1::BfindS => {
            let x = if (a as i32) < 0 { !a } else { a };
            if x == 0 { !0 } else { 31 - x.leading_zeros() }
        }
        _ => a,
    }
}

pub fn i32_bin(op: B2, a: u32, b: u32) -> u32 {
    let (sa, sb) = (a as i32, b as i32);
    match op {
        B2::Add => a.wrapping_add(b),
        B2::Sub => a.wrapping_sub(b),
        B2::AddSat => sa.saturating_add(sb) as u32,
        B2::SubSat => sa.saturating_sub(sb) as u32,
        B2::Mul => a.wrapping_mul(b),
        B2::MulHiS => ((sa as i64 * sb as i64) >> 32) as u32,
        B2::MulHiU => ((a as u64 * b as u64) >> 32) as u32,
        B2::Mul24 => (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff),
        B2::DivS => {
            if sb == 0 {
                !0
            } else {
                sa.wrapping_div(sb) as u32
            }
        }
        B2::DivU => a.checked_div(b).unwrap_or(!0),
        B2::RemS => {
            if sb == 0 {
                a
            } else {
                sa.wrapping_rem(sb) as u32
            }
        }
        B2::RemU => a.checked_rem(b).unwrap_or(a),
        B2::MinS => sa.min(sb) as u32,
        B2::MinU => a.min(b),
        B2::MaxS => sa.max(sb) as u32,
        B2::MaxU => a.max(b),
        B2::And => a & b,
        B2::Or => a | b,
        B2::Xor => a ^ b,
        B2::Shl => a.checked_shl(b).unwrap_or(0),
        B2::ShrU => a.checked_shr(b).unwrap_or(0),
        B2::ShrS => (sa >> b.min(31)) as u32,
        _ => 0,
    }
}

pub fn i64_bin(op: B2, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a as i64, b as i64);
    let sh = b as u32;
    match op {
        B2::Add => a.wrapping_add(b),
        B2::Sub => a.wrapping_sub(b),
        B2::Mul => a.wrapping_mul(b),
        B2::MulHiS => ((sa as i128 * sb as i128) >> 64) as u64,
        B2::MulHiU => ((a as u128 * b as u128) >> 64) as u64,
        B2::DivS => {
            if sb == 0 {
                !0
            } else {
                sa.wrapping_div(sb) as u64
            }
        }
        B2::DivU => a.checked_div(b).unwrap_or(!0),
        B2::RemS => {
            if sb == 0 {
                a
            } else {
                sa.wrapping_rem(sb) as u64
            }
        }
        B2::RemU => a.checked_rem(b).unwrap_or(a),
        B2::MinS => sa.min(sb) as u64,
        B2::MinU => a.min(b),
        B2::MaxS => sa.max(sb) as u64,
        B2::MaxU => a.max(b),
        B2::And => a & b,
        B2::Or => a | b,
        B2::Xor => a ^ b,
        B2::Shl => a.checked_shl(sh).unwrap_or(0),
        B2::ShrU => a.checked_shr(sh).unwrap_or(0),
        B2::ShrS => (sa >> sh.min(63)) as u64,
        _ => 0,
    }
}

pub fn f64_bin(op: B2, a: u64, b: u64) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    (match op {
        B2::FAdd => x + y,
        B2::FSub => x - y,
        B2::FMul => x * y,
        B2::FDiv => x / y,
        B2::FMin => x.min(y),
        B2::FMax => x.max(y),
        _ => y.copysign(x),
    })
    .to_bits()
}

fn h2f(ty: Ty, v: u16) -> f32 {
    if matches!(ty, Ty::BF16 | Ty::BF16x2) {
        bf16::from_bits(v).to_f32()
    } else {
        f16::from_bits(v).to_f32()
    }
}
fn f2h(ty: Ty, v: f64) -> u16 {
    if matches!(ty, Ty::BF16 | Ty::BF16x2) {
        to_bf16(v, Rnd::Rn)
    } else {
        f16::from_f64(v).to_bits()
    }
}

/// Correctly rounded f64 -> bf16.
pub fn to_bf16(x: f64, r: Rnd) -> u16 {
    let bits = |v: f64| bf16::from_f32(v as f32).to_bits();
    if x.is_nan() {
        return 0x7fff;
    }
    if x.is_infinite() || x == 0.0 {
        return bits(x);
    }
    let (m, e) = (x.abs(), x.abs().log2().floor() as i32);
    let e = e.max(-126);
    let ulp = 2f64.powi(e - 7);
    let q = m / ulp;
    let neg = x < 0.0;
    let n = match r {
        Rnd::Rz => q.floor(),
        Rnd::Rm if neg => q.ceil(),
        Rnd::Rp if !neg => q.ceil(),
        Rnd::Rm | Rnd::Rp => q.floor(),
        Rnd::Rna => (q + 0.5).floor(),
        _ => q.round_ties_even(),
    };
    bits((n * ulp).copysign(x))
}

/// Correctly rounded f64 -> f16.
pub fn to_f16(x: f64, r: Rnd) -> u16 {
    if matches!(r, Rnd::Rn) || x.is_nan() || x.is_infinite() || x == 0.0 {
        return if x.is_nan() {
            0x7fff
        } else {
            f16::from_f64(x).to_bits()
        };
    }
    let (m, e) = (x.abs(), (x.abs().log2().floor() as i32).max(-14));
    let ulp = 2f64.powi(e - 10);
    let q = m / ulp;
    let neg = x < 0.0;
    let n = match r {
        Rnd::Rz => q.floor(),
        Rnd::Rm if neg => q.ceil(),
        Rnd::Rp if !neg => q.ceil(),
        Rnd::Rm | Rnd::Rp => q.floor(),
        _ => q.round_ties_even(),
    };
    let y = n * ulp;
    if y > 65504.0 && matches!(r, Rnd::Rz) {
        return f16::from_f64(65504f64.copysign(x)).to_bits();
    }
    f16::from_f64(y.copysign(x)).to_bits()
}

/// Round a float to tf32 (10-bit mantissa); `Rna` or `Rn`/`Rz`.
pub fn to_tf32(x: f32, r: Rnd) -> u32 {
    let b = x.to_bits();
    if !x.is_finite() {
        return b & !0x1fff;
    }
    match r {
        Rnd::Rz => b & !0x1fff,
        Rnd::Rna => b.wrapping_add(0x1000) & !0x1fff,
        _ => b.wrapping_add(0xfff + ((b >> 13) & 1)) & !0x1fff,
    }
}

pub fn half_bin(op: B2, ty: Ty, a: u32, b: u32) -> u32 {
    let fl = Fl {
        ftz: false,
        sat: false,
        rnd: Rnd::Rn,
    };
    let one = |x: u16, y: u16| -> u16 {
        match op {
            B2::FAdd | B2::FSub | B2::FMul => {
                let (p, q) = (h2f(ty, x) as f64, h2f(ty, y) as f64);
                f2h(
                    ty,
                    match op {
                        B2::FAdd => p + q,
                        B2::FSub => p - q,
                        _ => p * q,
                    },
                )
            }
            _ => f2h(ty, f32_bin(op, fl, h2f(ty, x), h2f(ty, y)) as f64),
        }
    };
    let lo = one(a as u16, b as u16) as u32;
    if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
        lo | (one((a >> 16) as u16, (b >> 16) as u16) as u32) << 16
    } else {
        lo
    }
}

pub fn half_fma(ty: Ty, relu: bool, a: u32, b: u32, c: u32) -> u32 {
    let one = |x: u16, y: u16, z: u16| -> u16 {
        let r = h2f(ty, x) as f64 * h2f(ty, y) as f64 + h2f(ty, z) as f64;
        f2h(ty, if relu { r.max(0.0) } else { r })
    };
    let lo = one(a as u16, b as u16, c as u16) as u32;
    if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
        lo | (one((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16) as u32) << 16
    } else {
        lo
    }
}

pub fn half_un(op: U1, ty: Ty, a: u32) -> u32 {
    let fl = Fl {
        ftz: false,
        sat: false,
        rnd: Rnd::Rn,
    };
    let one = |x: u16| -> u16 {
        match op {
            U1::FNeg => x ^ 0x8000,
            U1::FAbs => x & 0x7fff,
            _ => f2h(ty, f32_un(op, fl, h2f(ty, x)) as f64),
        }
    };
    let lo = one(a as u16) as u32;
    if matches!(ty, Ty::F16x2 | Ty::BF16x2) {
        lo | (one((a >> 16) as u16) as u32) << 16
    } else {
        lo
    }
}

pub fn t32(op: T3, a: u32, b: u32, c: u32) -> u32 {
    match op {
        T3::Mad => a.wrapping_mul(b).wrapping_add(c),
        T3::MadHiS => (((a as i32 as i64 * b as i32 as i64) >> 32) as u32).wrapping_add(c),
        T3::MadHiU => (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c),
        T3::BfeU => {
            let (p, l) = (b & 0xff, c & 0xff);
            let x = if p >= 32 { 0 } else { a >> p };
            if l >= 32 { x } else { x & ((1 << l) - 1) }
        }
        T3::BfeS => {
            let (p, l) = (b & 0xff, c & 0xff);
            if l == 0 {
                return 0;
            }
            let x = (a as i32 as i64) >> p.min(63);
            let msb = (p + l - 1).min(31);
            let s = (a >> msb) & 1;
            let m = if l >= 32 { u32::MAX } else { (1 << l) - 1 };
            (x as u32 & m) | if s == 1 { !m } else { 0 }
        }
        T3::ShfL { wrap } => {
            let n = if wrap { c & 31 } else { c.min(32) };
            let v = (b as u64) << 32 | a as u64;
            if n == 32 { a } else { ((v << n) >> 32) as u32 }
        }
        T3::ShfR { wrap } => {
            let n = if wrap { c & 31 } else { c.min(32) };
            let v = (b as u64) << 32 | a as u64;
            (v >> n) as u32
        }
        T3::Prmt(mode) => prmt(a, b, c, mode),
        T3::SadS => (a as i32).abs_diff(b as i32).wrapping_add(c),
        T3::SadU => a.abs_diff(b).wrapping_add(c),
        T3::Dp4aS => (0..4).fold(c, |s, i| {
            s.wrapping_add(
                (((a >> (8 * i)) as u8 as i8 as i32) * ((b >> (8 * i)) as u8 as i8 as i32)) as u32,
            )
        }),
        T3::Dp4aU => (0..4).fold(c, |s, i| {
            s.wrapping_add(((a >> (8 * i)) & 255) * ((b >> (8 * i)) & 255))
        }),
        _ => 0,
    }
}

fn prmt(a: u32, b: u32, c: u32, mode: u8) -> u32 {
    let src = (b as u64) << 32 | a as u64;
    let byte = |i: u32| ((src >> (8 * (i & 7))) & 255) as u32;
    let sel: [u32; 4] = match mode {
        0 => {
            let mut r = 0;
            for i in 0..4 {
                let s = (c >> (4 * i)) & 15;
                let mut v = byte(s);
                if s & 8 != 0 {
                    v = if v & 0x80 != 0 { 0xff } else { 0 };
                }
                r |= v << (8 * i);
            }
            return r;
        }
        1 => {
            let s = c & 3;
            [s, s + 1, s + 2, s + 3]
        }
        2 => {
            let s = c & 3;
            [s, s + 7, s + 6, s + 5]
        }
        3 => [c & 3; 4],
        4 => {
            let s = c & 3;
            [s, 1.max(s), 2.max(s), 3]
        }
        5 => {
            let s = c & 3;
            [0, 1.min(s), 2.min(s), s]
        }
        _ => {
            let s = (c & 1) * 2;
            [s, s + 1, s, s + 1]
        }
    };
    (0..4).fold(0, |r, i| r | byte(sel[i]) << (8 * i))
}

pub fn cmp_i<T: PartialOrd>(c: Cmp, a: T, b: T) -> bool {
    match c {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        _ => a >= b,
    }
}

pub fn cmp_f(c: Cmp, a: f64, b: f64) -> bool {
    let nan = a.is_nan() || b.is_nan();
    match c {
        Cmp::Eq => a == b,
        Cmp::Ne => !nan && a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Equ => nan || a == b,
        Cmp::Neu => nan || a != b,
        Cmp::Ltu => nan || a < b,
        Cmp::Leu => nan || a <= b,
        Cmp::Gtu => nan || a > b,
        Cmp::Geu => nan || a >= b,
        Cmp::Num => !nan,
        Cmp::Nan => nan,
    }
}

fn fp8(v: u8, e4m3: bool) -> f64 {
    let s = if v & 0x80 != 0 { -1.0 } else { 1.0 };
    let (e, m, bias, mb) = if e4m3 {
        ((v >> 3) & 15, v & 7, 7, 3)
    } else {
        ((v >> 2) & 31, v & 3, 15, 2)
    };
    if e4m3 && v & 0x7f == 0x7f {
        return f64::NAN;
    }
    if !e4m3 && e == 31 {
        return if m == 0 { s * f64::INFINITY } else { f64::NAN };
    }
    let frac = m as f64 / (1 << mb) as f64;
    if e == 0 {
        s * frac * 2f64.powi(1 - bias)
    } else {
        s * (1.0 + frac) * 2f64.powi(e as i32 - bias)
    }
}

fn int_round(x: f64, r: Rnd) -> f64 {
    match r {
        Rnd::Rni | Rnd::Rn => x.round_ties_even(),
        Rnd::Rzi | Rnd::Rz => x.trunc(),
        Rnd::Rmi | Rnd::Rm => x.floor(),
        _ => x.ceil(),
    }
}

fn clamp_int(v: i128, ty: Ty) -> i128 {
    let b = ty.bytes() * 8;
    if ty.signed() {
        v.clamp(-(1i128 << (b - 1)), (1i128 << (b - 1)) - 1)
    } else {
        v.clamp(0, (1i128 << b) - 1)
    }
}

/// One conversion; the result's raw bits.
pub fn cvt_one(c: &CvtSpec, from: Ty, to: Ty, raw: u64) -> Result<u64, String> {
    let mut ival = 0i128;
    let mut fval = 0f64;
    let isf = from.float();
    match from {
        Ty::F32 | Ty::TF32 => {
            let x = f32::from_bits(raw as u32);
            fval = (if c.ftz { flush(x) } else { x }) as f64;
        }
        Ty::F64 => fval = f64::from_bits(raw),
        Ty::F16 => fval = f16::from_bits(raw as u16).to_f64(),
        Ty::BF16 => fval = bf16::from_bits(raw as u16).to_f64(),
        Ty::E4M3 => fval = fp8(raw as u8, true),
        Ty::E5M2 => fval = fp8(raw as u8, false),
        _ => {
            let s = 64 - from.bytes() * 8;
            ival = if from.signed() {
                (((raw << s) as i64) >> s) as i128
            } else {
                ((raw << s) >> s) as i128
            };
        }
    }
    if !to.float() {
        let v = if isf {
            if fval.is_nan() {
                match to.bytes() {
                    8 => 1i128 << 63,
                    4 if to.signed() => 0,
                    _ => 0,
                }
            } else {
                let f = int_round(fval, c.rnd.unwrap_or(Rnd::Rzi));
                // float to integer conversions saturate
                clamp_int(f.clamp(-1e30, 1e30) as i128, to)
            }
        } else if c.sat {
            clamp_int(ival, to)
        } else {
            ival
        };
        let m = if to.bytes() == 8 {
            u64::MAX
        } else {
            (1u64 << (to.bytes() * 8)) - 1
        };
        return Ok(v as u64 & m);
    }
    let r = c.rnd.unwrap_or(Rnd::Rn);
    let mut x = if isf {
        // cvt.rni.f32.f32: round to an integral value
        if matches!(r, Rnd::Rni | Rnd::Rzi | Rnd::Rmi | Rnd::Rpi) {
            int_round(fval, r)
        } else {
            fval
        }
    } else {
        ival as f64
    };
    let r = match r {
        Rnd::Rni | Rnd::Rzi | Rnd::Rmi | Rnd::Rpi => Rnd::Rn,
        r => r,
    };
    if c.sat {
        x = if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) };
    }
    if c.relu && (x < 0.0) {
        x = 0.0;
    }
    Ok(match to {
        Ty::F32 => {
            let y = if !isf && r == Rnd::Rn {
                ival as f32
            } else {
                round32(x, r)
            };
            (if c.ftz { flush(y) } else { y }).to_bits() as u64
        }
        Ty::F64 => x.to_bits(),
        Ty::F16 => {
            let x = if c.satfinite {
                x.clamp(-65504.0, 65504.0)
            } else {
                x
            };
            to_f16(x, r) as u64
        }
        Ty::BF16 => to_bf16(x, r) as u64,
        Ty::TF32 => to_tf32(x as f32, r) as u64,
        _ => return Err(format!("unsupported conversion {from:?} -> {to:?}")),
    })
}

#[inline(always)]
pub fn bf16_rn(x: u32) -> u32 {
    let nan = (x & 0x7fff_ffff) > 0x7f80_0000;
    if nan {
        0x7fff
    } else {
        (x.wrapping_add(0x7fff + ((x >> 16) & 1))) >> 16
    }
}
