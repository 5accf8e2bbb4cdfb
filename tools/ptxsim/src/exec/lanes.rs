//! Instructions that only touch the registers and predicates of their own lane.

use super::address;
use crate::alu::registers::{Registers, lanes};
use crate::alu::{convert, double, float, half_float, integer, tf32};
use crate::ir::*;
use crate::ty::Ty;

/// Executes `op` in the lanes of a mask; whether it is one of these instructions.
pub fn execute(op: &Op, r: &mut Registers, mask: u32) -> bool {
    match op {
        Op::Mov32(d, a) => r.map1(mask, *d, *a, |x| x),
        Op::Mov64(d, a) => {
            r.map1(mask, *d, *a, |x| x);
            r.map1(mask, *d + 1, *a + 1, |x| x);
        }
        Op::Pack { bits, d, parts } => pack(r, mask, *bits, *d, parts),
        Op::Unpack { bits, parts, a } => unpack(r, mask, *bits, parts, *a),
        Op::ActiveMask(d) => lanes(mask, |l| r.set(*d, l, mask)),
        Op::Setp(s) => setp(r, mask, s),
        Op::Select { bytes, d, a, b, p } => select(r, mask, *bytes, *d, [*a, *b], *p),
        Op::Boolean(op, p, a, b) => {
            let v = op.apply(r.predicate(*a), r.predicate(*b));
            r.set_predicate(*p, mask, v);
        }
        Op::MovPredicate(p, a) => r.set_predicate(*p, mask, r.predicate(*a)),
        Op::ToGeneric(space, d, a) => {
            let base = address::window(*space);
            lanes(mask, |l| r.set64(*d, l, r.get64(*a, l).wrapping_add(base)));
        }
        Op::FromGeneric(space, d, a) => {
            let base = address::window(*space);
            lanes(mask, |l| r.set64(*d, l, r.get64(*a, l).wrapping_sub(base)));
        }
        Op::Convert(c) => convert(r, mask, c),
        Op::ToTf32(how, d, a) => r.map1(mask, *d, *a, |x| tf32::convert(how, x)),
        op => return integers(op, r, mask) || floats(op, r, mask),
    }
    true
}

fn pack(r: &mut Registers, mask: u32, bits: u32, d: S, parts: &[S]) {
    let part = u64::MAX >> (64 - bits);
    let bytes = bits as usize * parts.len() / 8;
    lanes(mask, |l| {
        let parts = parts.iter().zip(0..);
        let v = parts.fold(0, |v, (s, i)| {
            v | (r.get(*s, l) as u64 & part) << (bits * i)
        });
        r.set_raw(d, bytes, l, v);
    });
}

fn unpack(r: &mut Registers, mask: u32, bits: u32, parts: &[S], a: S) {
    let part = u64::MAX >> (64 - bits);
    lanes(mask, |l| {
        let v = r.raw(a, bits as usize * parts.len() / 8, l);
        for (s, i) in parts.iter().zip(0..) {
            r.set(*s, l, (v >> (bits * i) & part) as u32);
        }
    });
}

fn select(r: &mut Registers, mask: u32, bytes: usize, d: S, [a, b]: [S; 2], p: PSrc) {
    let p = r.predicate(p);
    lanes(mask, |l| {
        let s = if p >> l & 1 == 1 { a } else { b };
        r.set_raw(d, bytes, l, r.raw(s, bytes, l));
    });
}

/// Integer arithmetic; 32-bit instructions that kernels are full of go first.
fn integers(op: &Op, r: &mut Registers, mask: u32) -> bool {
    match op {
        Op::Int2(op, ty, d, s) if ty.bytes() == 4 && quick(*op, r, mask, *d, *s) => {}
        Op::Int2(Int2::Add, Ty::S64 | Ty::U64, d, [a, b]) => {
            let (x, y) = (r.wide(*a), r.wide(*b));
            r.store_wide(mask, *d, |l| x(l).wrapping_add(y(l)));
        }
        Op::Int2(op, ty, d, [a, b]) => {
            let n = ty.bytes();
            // The distance of a shift has 32 bits, of which the low half of a 64-bit slot is all that is looked at.
            let nb = if matches!(op, Int2::Shl | Int2::Shr) {
                4
            } else {
                n
            };
            lanes(mask, |l| {
                let v = integer::binary(*op, *ty, r.raw(*a, n, l), r.raw(*b, nb, l));
                r.set_raw(*d, n, l, v);
            });
        }
        Op::Int1(op, ty, d, a) => {
            let n = ty.bytes();
            let count = matches!(op, Int1::Popc | Int1::Clz);
            lanes(mask, |l| {
                let v = integer::unary(*op, *ty, r.raw(*a, n, l));
                r.set_raw(*d, if count { 4 } else { n }, l, v);
            });
        }
        Op::Int3(op, d, s) => r.map3(mask, *d, *s, |x, y, z| integer::ternary(*op, x, y, z)),
        Op::Bfi { .. } => bfi(op, r, mask),
        Op::MulWide(Ty::U32, d, [a, b]) => {
            let (x, y) = (r.words[*a as usize], r.words[*b as usize]);
            r.store_wide(mask, *d, |l| x[l] as u64 * y[l] as u64);
        }
        Op::MulWide(ty, d, [a, b]) => lanes(mask, |l| {
            let v = integer::wide_product(*ty, r.get(*a, l) as u64, r.get(*b, l) as u64);
            r.set_raw(*d, 2 * ty.bytes(), l, v);
        }),
        Op::MadWide(ty, d, [a, b, c]) => lanes(mask, |l| {
            let v = integer::wide_product(*ty, r.get(*a, l) as u64, r.get(*b, l) as u64);
            let n = 2 * ty.bytes();
            r.set_raw(*d, n, l, v.wrapping_add(r.raw(*c, n, l)));
        }),
        Op::Mad { high, ty, d, s } => mad(r, mask, *high, *ty, *d, *s),
        _ => return false,
    }
    true
}

#[inline(always)]
fn quick(op: Int2, r: &mut Registers, mask: u32, d: S, s: [S; 2]) -> bool {
    match op {
        Int2::Add => r.map2(mask, d, s, |x, y| x.wrapping_add(y)),
        Int2::Sub => r.map2(mask, d, s, |x, y| x.wrapping_sub(y)),
        Int2::Mul => r.map2(mask, d, s, |x, y| x.wrapping_mul(y)),
        Int2::And => r.map2(mask, d, s, |x, y| x & y),
        Int2::Or => r.map2(mask, d, s, |x, y| x | y),
        Int2::Xor => r.map2(mask, d, s, |x, y| x ^ y),
        Int2::Shl => r.map2(mask, d, s, |x, y| x.checked_shl(y).unwrap_or(0)),
        _ => return false,
    }
    true
}

fn bfi(op: &Op, r: &mut Registers, mask: u32) {
    let Op::Bfi {
        ty,
        d,
        a,
        b,
        position,
        length,
    } = op
    else {
        unreachable!()
    };
    let n = ty.bytes();
    lanes(mask, |l| {
        let (position, length) = (r.get(*position, l), r.get(*length, l));
        let v = integer::bfi(
            ty.bits(),
            r.raw(*a, n, l),
            r.raw(*b, n, l),
            position,
            length,
        );
        r.set_raw(*d, n, l, v);
    });
}

fn mad(r: &mut Registers, mask: u32, high: bool, ty: Ty, d: S, s: [S; 3]) {
    if ty.bytes() == 4 && !high {
        return r.map3(mask, d, s, |x, y, z| x.wrapping_mul(y).wrapping_add(z));
    }
    let n = ty.bytes();
    let op = if high { Int2::MulHi } else { Int2::Mul };
    lanes(mask, |l| {
        let product = integer::binary(op, ty, r.raw(s[0], n, l), r.raw(s[1], n, l));
        let sum = product.wrapping_add(r.raw(s[2], n, l)) & ty.mask();
        r.set_raw(d, n, l, sum);
    });
}

/// Float arithmetic; the instructions that kernels are full of go first.
fn floats(op: &Op, r: &mut Registers, mask: u32) -> bool {
    let f = f32::from_bits;
    match op {
        Op::Fma(Ty::F32, flavour, d, s) if flavour.plain() => {
            let sums = float::fused(s.map(|s| r.words[s as usize]));
            r.store(mask, *d, sums);
        }
        Op::Fma(Ty::F32, flavour, d, s) => r.map3(mask, *d, *s, |x, y, z| {
            float::fma(*flavour, f(x), f(y), f(z)).to_bits()
        }),
        Op::Fma(Ty::F64, _, d, [a, b, c]) => {
            let (x, y, z) = (doubles(r, *a), doubles(r, *b), doubles(r, *c));
            r.store_wide(mask, *d, |l| x(l).mul_add(y(l), z(l)).to_bits());
        }
        Op::Fma(ty, flavour, d, s) => r.map3(mask, *d, *s, |x, y, z| {
            half_float::fma(*ty, *flavour, x, y, z)
        }),
        Op::Float2(op, Ty::F32, flavour, d, s) => float2(r, mask, *op, *flavour, *d, *s),
        Op::Float2(op, Ty::F64, _, d, [a, b]) => {
            let (x, y) = (doubles(r, *a), doubles(r, *b));
            r.store_wide(mask, *d, |l| double::binary(*op, x(l), y(l)).to_bits());
        }
        Op::Float2(op, ty, flavour, d, s) => r.map2(mask, *d, *s, |x, y| {
            half_float::binary(*op, *ty, *flavour, x, y)
        }),
        Op::Float1(op, Ty::F32, flavour, d, a) => r.map1(mask, *d, *a, |x| {
            float::unary(*op, *flavour, f(x)).to_bits()
        }),
        Op::Float1(op, Ty::F64, _, d, a) => {
            let x = doubles(r, *a);
            r.store_wide(mask, *d, |l| double::unary(*op, x(l)).to_bits());
        }
        Op::Float1(op, ty, flavour, d, a) => {
            r.map1(mask, *d, *a, |x| half_float::unary(*op, *ty, *flavour, x))
        }
        _ => return false,
    }
    true
}

fn doubles(r: &Registers, s: S) -> impl Fn(usize) -> f64 + use<> {
    let bits = r.wide(s);
    move |l| f64::from_bits(bits(l))
}

fn float2(r: &mut Registers, mask: u32, op: Float2, flavour: Flavour, d: S, s: [S; 2]) {
    let f = f32::from_bits;
    let bits = |x| float::canonical(x).to_bits();
    match op {
        Float2::Add if flavour.plain() => r.map2(mask, d, s, |x, y| bits(f(x) + f(y))),
        Float2::Sub if flavour.plain() => r.map2(mask, d, s, |x, y| bits(f(x) - f(y))),
        Float2::Mul if flavour.plain() => r.map2(mask, d, s, |x, y| bits(f(x) * f(y))),
        op => r.map2(mask, d, s, |x, y| {
            float::binary(op, flavour, f(x), f(y)).to_bits()
        }),
    }
}

fn setp(r: &mut Registers, mask: u32, s: &Setp) {
    let result = match s.ty {
        Ty::S32 => compare_words(r, s, |x| x as i32),
        Ty::U32 | Ty::B32 => compare_words(r, s, |x| x),
        Ty::F32 if !s.ftz => compare_words(r, s, f32::from_bits),
        _ => compare_values(r, mask, s),
    };
    let combine = |v: u32, r: &Registers| match s.with {
        Some((op, p)) => op.apply(v, r.predicate(p)),
        None => v,
    };
    let (p, q) = (combine(result, r), combine(!result, r));
    r.set_predicate(s.p, mask, p);
    r.set_predicate(s.q, mask, q);
}

fn compare_words<T: PartialOrd + Copy>(r: &Registers, s: &Setp, f: impl Fn(u32) -> T) -> u32 {
    let (x, y) = (&r.words[s.a as usize], &r.words[s.b as usize]);
    (0..32).fold(0, |m, l| m | (compare(s, f(x[l]), f(y[l])) as u32) << l)
}

fn compare_values(r: &Registers, mask: u32, s: &Setp) -> u32 {
    let mut result = 0;
    let n = s.ty.bytes();
    let float = |x: u64| match s.ty {
        Ty::F32 => float::flush(f32::from_bits(x as u32)) as f64,
        Ty::F64 => f64::from_bits(x),
        ty => half_float::decode(ty, x as u16),
    };
    lanes(mask, |l| {
        let (x, y) = (r.raw(s.a, n, l), r.raw(s.b, n, l));
        let holds = if s.ty.float() {
            compare(s, float(x), float(y))
        } else {
            compare(s, s.ty.extend(x), s.ty.extend(y))
        };
        result |= (holds as u32) << l;
    });
    result
}

#[inline(always)]
fn compare<T: PartialOrd>(s: &Setp, x: T, y: T) -> bool {
    let Some(order) = x.partial_cmp(&y) else {
        return s.comparison == Comparison::Nan || s.unordered;
    };
    match s.comparison {
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Gt => order.is_gt(),
        Comparison::Ge => order.is_ge(),
        Comparison::Num => true,
        Comparison::Nan => false,
    }
}

fn convert(r: &mut Registers, mask: u32, c: &Conversion) {
    match (c.b, c.to) {
        (Some(b), Ty::BF16x2)
            if c.rounding == Some(Rounding::Nearest) && !c.relu && !c.satfinite =>
        {
            r.map2(mask, c.d, [c.a, b], |high, low| {
                convert::bf16_nearest(high) << 16 | convert::bf16_nearest(low)
            });
        }
        (Some(b), to) => {
            let to = if to.bf16() { Ty::BF16 } else { Ty::F16 };
            r.map2(mask, c.d, [c.a, b], |high, low| {
                let one = |x: u32| convert::convert(c, c.from, to, x as u64) as u32;
                one(high) << 16 | one(low)
            });
        }
        (None, to) => lanes(mask, |l| {
            let v = convert::convert(c, c.from, to, r.raw(c.a, c.from.bytes(), l));
            let v = if to.float() { v } else { to.extend(v) as u64 };
            r.set_raw(c.d, if c.wide { 8 } else { 4 }, l, v);
        }),
    }
}
