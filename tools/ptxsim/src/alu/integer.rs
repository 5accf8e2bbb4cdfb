//! Integers of every width.

use crate::ir::{Int1, Int2, Int3};
use crate::ty::Ty;

pub fn unary(op: Int1, ty: Ty, a: u64) -> u64 {
    let unused = 64 - ty.bits();
    let r = match op {
        Int1::Neg => a.wrapping_neg(),
        Int1::Not => !a,
        Int1::Abs => ty.extend(a).unsigned_abs() as u64,
        Int1::Popc => (a & ty.mask()).count_ones() as u64,
        Int1::Clz => ((a & ty.mask()).leading_zeros() - unused) as u64,
        Int1::Brev => a.reverse_bits() >> unused,
    };
    r & ty.mask()
}

pub fn binary(op: Int2, ty: Ty, a: u64, b: u64) -> u64 {
    let (x, y) = (ty.extend(a), ty.extend(b));
    let bits = ty.bits();
    let r = match op {
        Int2::Add => x + y,
        Int2::Sub => x - y,
        Int2::Mul => x.wrapping_mul(y),
        Int2::MulHi if ty == Ty::U64 => (((a as u128) * (b as u128)) >> 64) as i128,
        Int2::MulHi => (x * y) >> bits,
        Int2::Div if y == 0 => -1,
        Int2::Div => x / y,
        Int2::Rem if y == 0 => x,
        Int2::Rem => x % y,
        Int2::Min => x.min(y),
        Int2::Max => x.max(y),
        Int2::And => x & y,
        Int2::Or => x | y,
        Int2::Xor => x ^ y,
        // The distance is a u32 whatever the type, and counts at most as the width.
        Int2::Shl => x << (b as u32).min(bits),
        Int2::Shr => x >> (b as u32).min(bits),
    };
    r as u64 & ty.mask()
}

/// The product in twice the width.
pub fn wide_product(ty: Ty, a: u64, b: u64) -> u64 {
    (ty.extend(a) * ty.extend(b)) as u64
}

/// On 32 bits.
pub fn ternary(op: Int3, a: u32, b: u32, c: u32) -> u32 {
    match op {
        Int3::Bfe { signed } => bfe(signed, a, b & 255, c & 255),
        Int3::Shf { left, wrap } => shf(left, a, b, if wrap { c & 31 } else { c.min(32) }),
        Int3::Prmt => prmt(a, b, c),
        Int3::Lop3(table) => lop3(table, a, b, c),
    }
}

fn bfe(signed: bool, a: u32, position: u32, length: u32) -> u32 {
    if length == 0 {
        return 0;
    }
    let field = if signed { a as i32 as i64 } else { a as i64 } >> position.min(63);
    let sign_at = (position + length - 1).min(31);
    let field = field as u64 & low_ones(length);
    let negative = signed && a >> sign_at & 1 == 1;
    (field | if negative { !low_ones(length) } else { 0 }) as u32
}

fn low_ones(n: u32) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Inserts the low `length` bits of `a` into `b`.
pub fn bfi(bits: u32, a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let shift = |x: u64| if position >= bits { 0 } else { x << position };
    let mask = shift(low_ones(length));
    b & !mask | shift(a) & mask
}

fn shf(left: bool, a: u32, b: u32, n: u32) -> u32 {
    let both = (b as u64) << 32 | a as u64;
    if left {
        ((both as u128) << n >> 32) as u32
    } else {
        (both >> n) as u32
    }
}

fn prmt(a: u32, b: u32, selectors: u32) -> u32 {
    let source = ((b as u64) << 32 | a as u64).to_le_bytes();
    u32::from_le_bytes(std::array::from_fn(|i| {
        let selector = selectors >> (4 * i) & 15;
        let byte = source[selector as usize & 7];
        match selector & 8 {
            0 => byte,
            _ => (byte as i8 >> 7) as u8,
        }
    }))
}

fn lop3(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let term = |i: u32| {
        let pick = |x: u32, bit: u32| if i >> bit & 1 == 1 { x } else { !x };
        pick(a, 2) & pick(b, 1) & pick(c, 0)
    };
    let terms = (0..8).filter(|i| table >> i & 1 == 1);
    terms.fold(0, |r, i| r | term(i))
}
