//! wmma: matrices that the lanes of a warp hold together, and their loads, stores and products.
//!
//! The ISA leaves it open which lane holds which element. Here they are dealt out in the order of rows: lane `l` of
//! fragments of `n` elements each has elements `n l` to `n l + n - 1`, so that accumulators of f16 and of f32 agree. An A
//! or B of f16 has more places than elements; they begin again, and the copies must stay equal.

use super::address::classify;
use super::{At, Cluster, R};
use crate::alu::registers::Registers;
use crate::fragments::{multiply, value};
use crate::ir::*;
use half::f16;

/// Most that is read or written at once, and what every row is aligned to at least: fragments may be smaller.
const CHUNK: usize = 16;

impl Fragment {
    /// Elements of a lane.
    fn share(&self) -> usize {
        self.registers.len() * self.number.per_register()
    }

    /// Their bytes.
    fn bytes(&self) -> usize {
        self.registers.len() * 4
    }

    /// The bits of the elements row by row; none if copies of one differ.
    fn gather(&self, r: &Registers) -> Option<Vec<u32>> {
        let size = self.rows * self.columns;
        let held = (0..32).flat_map(|l| (0..self.share()).map(move |i| self.element(r, l, i)));
        let mut held: Vec<u32> = held.collect();
        let copies = held.split_off(size);
        let same = copies.iter().zip(held.iter().cycle()).all(|(x, y)| x == y);
        same.then_some(held)
    }

    fn element(&self, r: &Registers, l: usize, i: usize) -> u32 {
        match self.number.per_register() {
            1 => r.get(self.registers[i], l),
            _ => r.get(self.registers[i / 2], l) >> (16 * (i % 2)) & 0xffff,
        }
    }

    fn scatter(&self, r: &mut Registers, matrix: &[u32]) {
        for l in 0..32 {
            let bits = |i: usize| matrix[(l * self.share() + i) % matrix.len()];
            for (i, register) in self.registers.iter().enumerate() {
                let word = match self.number.per_register() {
                    1 => bits(i),
                    _ => bits(2 * i) | bits(2 * i + 1) << 16,
                };
                r.set(*register, l, word);
            }
        }
    }

    /// Row by row.
    fn values(&self, r: &Registers) -> Option<Vec<f32>> {
        let bits = self.gather(r)?.into_iter();
        Some(bits.map(|bits| value(self.number, bits)).collect())
    }
}

impl WmmaCopy {
    /// Rows or columns that lie together, and elements of each.
    fn lines(&self) -> (usize, usize) {
        let Fragment { rows, columns, .. } = self.fragment;
        match self.by_columns {
            true => (columns, rows),
            false => (rows, columns),
        }
    }

    /// The element of the matrix, row by row, that is the `i`-th of a line.
    fn index(&self, line: usize, i: usize) -> usize {
        match self.by_columns {
            true => i * self.fragment.columns + line,
            false => line * self.fragment.columns + i,
        }
    }
}

impl Cluster<'_> {
    pub(super) fn wmma_load(&mut self, at: At, mask: u32, s: &WmmaCopy) -> R<()> {
        let lines = self.lines(at, mask, s)?;
        let Fragment { rows, columns, .. } = s.fragment;
        let (n, mut matrix) = (s.fragment.number.bytes(), vec![0; rows * columns]);
        let mut bytes = vec![0; s.lines().1 * n];
        for (line, a) in lines.into_iter().enumerate() {
            let chunk = CHUNK.min(s.fragment.bytes());
            for (a, bytes) in (a..).step_by(chunk).zip(bytes.chunks_mut(chunk)) {
                self.read(at, s.space, a, bytes)?;
            }
            for (i, bytes) in bytes.chunks_exact(n).enumerate() {
                let bits = bytes.iter().rev().fold(0, |v, b| v << 8 | *b as u32);
                matrix[s.index(line, i)] = bits;
            }
        }
        let registers = &mut self.warps[at.wi].registers;
        s.fragment.scatter(registers, &matrix);
        Ok(())
    }

    pub(super) fn wmma_store(&mut self, at: At, mask: u32, s: &WmmaCopy) -> R<()> {
        let lines = self.lines(at, mask, s)?;
        let registers = &self.warps[at.wi].registers;
        let matrix = s.fragment.gather(registers);
        let Some(matrix) = matrix else {
            return self.copies_differ(at);
        };
        let (n, length) = (s.fragment.number.bytes(), s.lines().1);
        for (line, a) in lines.into_iter().enumerate() {
            let bits = (0..length).map(|i| matrix[s.index(line, i)].to_le_bytes());
            let bytes: Vec<u8> = bits.flat_map(|b| b.into_iter().take(n)).collect();
            let chunk = CHUNK.min(s.fragment.bytes());
            for (a, bytes) in (a..).step_by(chunk).zip(bytes.chunks(chunk)) {
                self.write(at, s.space, a, bytes)?;
            }
        }
        Ok(())
    }

    pub(super) fn wmma(&mut self, at: At, mask: u32, s: &Wmma) -> R<()> {
        self.check_whole(at, mask)?;
        let r = &mut self.warps[at.wi].registers;
        let operands = (s.a.values(r), s.b.values(r), s.c.values(r));
        let (Some(a), Some(b), Some(mut acc)) = operands else {
            return self.copies_differ(at);
        };
        multiply(&mut acc, (&a, s.a.columns), &b, s.b.columns);
        let bits = acc.iter().map(|x| match s.d.number {
            Number::F16 => f16::from_f32(*x).to_bits() as u32,
            _ => x.to_bits(),
        });
        s.d.scatter(r, &bits.collect::<Vec<_>>());
        self.stats.mma += 1;
        Ok(())
    }

    fn check_whole(&self, at: At, mask: u32) -> R<()> {
        match mask {
            u32::MAX => Ok(()),
            _ => self.fail(at, format!("wmma in lanes {mask:08x} alone")),
        }
    }

    fn copies_differ<T>(&self, at: At) -> R<T> {
        self.fail(at, "copies of an element of the fragment differ")
    }

    /// Where the lines begin, of which all lanes say the same.
    ///
    /// The ISA asks that each begins at a multiple of the fragment's size, CUDA C++ that the first does and the others
    /// lie at multiples of 16 bytes. What both allow is allowed.
    pub(super) fn lines(&self, at: At, mask: u32, s: &WmmaCopy) -> R<Vec<u64>> {
        self.check_whole(at, mask)?;
        let stride = |l| {
            s.stride
                .map(|stride| self.reg(At { l, ..at }, stride) as u64)
        };
        let (first, pitch) = (self.address(at, &s.addr), stride(at.l));
        for l in 0..32 {
            if self.address(At { l, ..at }, &s.addr) != first || stride(l) != pitch {
                return self.fail(At { l, ..at }, "another address or stride than lane 0");
            }
        }
        let aligned = s.fragment.bytes() as u64;
        if !first.is_multiple_of(aligned) {
            let message = format!("the matrix at 0x{first:x} is not aligned to {aligned} bytes");
            return self.fail(at, message);
        }
        if s.space == Space::Generic && matches!(classify(first), Space::Local | Space::Param) {
            return self.fail(
                at,
                format!("0x{first:x} is neither global nor shared memory"),
            );
        }
        let (count, length) = s.lines();
        let pitch = pitch.unwrap_or(length as u64) * s.fragment.number.bytes() as u64;
        Ok((0..count as u64).map(|i| first + i * pitch).collect())
    }
}
