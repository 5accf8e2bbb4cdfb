//! Matrix fragments: which lane holds which element in `mma.sync` and wgmma, and the products of all matrices.

use crate::alu::half_float;
use crate::alu::registers::Registers;
use crate::alu::tf32;
use crate::ir::*;
use crate::ty::Ty;
use half::f16;

/// Rows of a warp's fragment.
const ROWS: usize = 16;

fn number(ty: Ty, bits: u16) -> f32 {
    half_float::decode(ty, bits) as f32
}

/// Row and first of two columns that a register of A holds: `i` the register, `l` the lane.
fn a_place(i: usize, l: usize) -> (usize, usize) {
    (l / 4 + 8 * (i % 2), 2 * (l % 4) + 8 * (i / 2))
}

/// Row and column of an f32 accumulator.
fn d_place(i: usize, l: usize) -> (usize, usize) {
    (l / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (l % 4) + i % 2)
}

/// Row and first of two columns of an accumulator of packed halves.
fn d_pair_place(i: usize, l: usize) -> (usize, usize) {
    (l / 4 + 8 * (i % 2), 8 * (i / 2) + 2 * (l % 4))
}

/// A of a warp, `[row][k]`.
pub type A = [[f32; 16]; ROWS];

fn load_a(r: &Registers, ty: Ty, registers: &[S]) -> A {
    let mut a = A::default();
    for (i, s) in registers.iter().enumerate() {
        for l in 0..32 {
            let (row, k) = a_place(i, l);
            let bits = r.get(*s, l);
            a[row][k] = number(ty, bits as u16);
            a[row][k + 1] = number(ty, (bits >> 16) as u16);
        }
    }
    a
}

/// Accumulators, `[row][n]`.
fn load_d(r: &Registers, registers: &[S], half: bool, n: usize) -> Vec<f32> {
    let mut acc = vec![0.0; ROWS * n];
    for (i, s) in registers.iter().enumerate() {
        for l in 0..32 {
            let bits = r.get(*s, l);
            if half {
                let (row, column) = d_pair_place(i, l);
                acc[row * n + column] = number(Ty::F16, bits as u16);
                acc[row * n + column + 1] = number(Ty::F16, (bits >> 16) as u16);
            } else {
                let (row, column) = d_place(i, l);
                acc[row * n + column] = f32::from_bits(bits);
            }
        }
    }
    acc
}

fn store_d(r: &mut Registers, registers: &[S], half: bool, n: usize, acc: &[f32]) {
    for (i, s) in registers.iter().enumerate() {
        for l in 0..32 {
            let bits = if half {
                let (row, column) = d_pair_place(i, l);
                let bits = |c: usize| f16::from_f32(acc[row * n + c]).to_bits() as u32;
                bits(column) | bits(column + 1) << 16
            } else {
                let (row, column) = d_place(i, l);
                acc[row * n + column].to_bits()
            };
            r.set(*s, l, bits);
        }
    }
}

/// `acc += a b` in the order of k, rounded at each step; `b` is `[k][n]`, and the rows of `a` are `pitch` apart.
pub fn multiply(acc: &mut [f32], (a, pitch): (&[f32], usize), b: &[f32], n: usize) {
    for (row, a) in acc.chunks_exact_mut(n).zip(a.chunks_exact(pitch)) {
        for (x, b) in a.iter().zip(b.chunks_exact(n)) {
            for (c, y) in row.iter_mut().zip(b) {
                *c += x * y;
            }
        }
    }
}

/// The 16 rows of a wgmma that one warp holds. `a` is `[k][64]` where A comes from shared memory, `b` is `[k][n]`.
pub fn wgmma(
    r: &mut Registers,
    s: &Wgmma,
    warp: usize,
    (a, b): (Option<&[f32]>, &[f32]),
    scale_d: bool,
) {
    let mut fragment = match (&s.a, a) {
        (WgmmaA::Registers(registers), _) => load_a(r, s.ty, registers),
        (_, a) => {
            let a = a.unwrap_or_default();
            let row = |m: usize| std::array::from_fn(|k| a[k * 64 + warp * ROWS + m]);
            std::array::from_fn(row)
        }
    };
    if s.negate_a != s.negate_b {
        fragment.iter_mut().flatten().for_each(|x| *x = -*x);
    }
    let mut acc = match scale_d {
        true => load_d(r, &s.d, s.half_d, s.n),
        false => vec![0.0; ROWS * s.n],
    };
    multiply(&mut acc, (fragment.as_flattened(), 16), b, s.n);
    store_d(r, &s.d, s.half_d, s.n, &acc);
}

/// The value of an element: its bits are the low ones.
pub fn value(number: Number, bits: u32) -> f32 {
    match number {
        Number::F16 => self::number(Ty::F16, bits as u16),
        Number::BF16 => self::number(Ty::BF16, bits as u16),
        Number::TF32 => tf32::operand(bits),
        Number::F32 => f32::from_bits(bits),
    }
}

/// Row and column of a register of tf32 in A.
fn a_single_place(i: usize, l: usize) -> (usize, usize) {
    (l / 4 + 8 * (i % 2), l % 4 + 4 * (i / 2))
}

fn mma_a(r: &Registers, s: &Mma) -> A {
    match s.number {
        Number::F16 => load_a(r, Ty::F16, &s.a),
        Number::BF16 => load_a(r, Ty::BF16, &s.a),
        single => {
            let mut a = A::default();
            for (i, register) in s.a.iter().enumerate() {
                for l in 0..32 {
                    let (row, k) = a_single_place(i, l);
                    a[row][k] = value(single, r.get(*register, l));
                }
            }
            a
        }
    }
}

/// B, `[k][8]`.
fn mma_b(r: &Registers, s: &Mma) -> Vec<f32> {
    let mut b = vec![0.0; s.k * 8];
    let together = s.number.per_register();
    for (i, register) in s.b.iter().enumerate() {
        for l in 0..32 {
            let (n, k) = (l / 4, together * (l % 4 + 4 * i));
            let bits = r.get(*register, l);
            b[k * 8 + n] = value(s.number, bits);
            if together == 2 {
                b[(k + 1) * 8 + n] = value(s.number, bits >> 16);
            }
        }
    }
    b
}

pub fn mma(r: &mut Registers, s: &Mma) {
    let (a, b) = (mma_a(r, s), mma_b(r, s));
    let mut acc = load_d(r, &s.c, s.half_c, 8);
    multiply(&mut acc, (a.as_flattened(), 16), &b, 8);
    store_d(r, &s.d, s.half_d, 8, &acc);
}
