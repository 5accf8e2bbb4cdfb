//! ldmatrix and stmatrix: 8 x 8 matrices of 16-bit elements, a row at the address of each lane.

use super::{At, Cluster, R};
use crate::ir::*;

/// The two elements of a matrix that a lane holds.
fn elements(trans: bool, l: usize) -> [(usize, usize); 2] {
    let (row, column) = (l / 4, 2 * (l % 4));
    match trans {
        false => [(row, column), (row, column + 1)],
        true => [(column, row), (column + 1, row)],
    }
}

impl Cluster<'_> {
    /// Row addresses come from 8 lanes per matrix.
    fn row_address(&self, at: At, addr: &Addr) -> R<u64> {
        let a = self.address(at, addr);
        if a.is_multiple_of(16) {
            return Ok(a);
        }
        self.fail(at, format!("the row at 0x{a:x} is not aligned to 16 bytes"))
    }

    pub(super) fn ldmatrix(&mut self, at: At, trans: bool, d: &[S], addr: &Addr) -> R<()> {
        for (m, d) in d.iter().enumerate() {
            let mut matrix = [[0; 16]; 8];
            for (row, bytes) in matrix.iter_mut().enumerate() {
                let at = At {
                    l: m * 8 + row,
                    ..at
                };
                let a = self.row_address(at, addr)?;
                self.read(at, Space::Shared, a, bytes)?;
            }
            for l in 0..32 {
                let [low, high] = elements(trans, l).map(|(row, column)| {
                    let bytes = &matrix[row][2 * column..];
                    u16::from_le_bytes([bytes[0], bytes[1]]) as u32
                });
                self.warps[at.wi].registers.set(*d, l, low | high << 16);
            }
        }
        Ok(())
    }

    pub(super) fn stmatrix(&mut self, at: At, trans: bool, s: &[S], addr: &Addr) -> R<()> {
        for (m, s) in s.iter().enumerate() {
            let mut matrix = [[0; 16]; 8];
            for l in 0..32 {
                let bits = self.reg(At { l, ..at }, *s);
                let halves = [bits as u16, (bits >> 16) as u16];
                for ((row, column), half) in elements(trans, l).into_iter().zip(halves) {
                    matrix[row][2 * column..2 * column + 2].copy_from_slice(&half.to_le_bytes());
                }
            }
            for (row, bytes) in matrix.iter().enumerate() {
                let at = At {
                    l: m * 8 + row,
                    ..at
                };
                let a = self.row_address(at, addr)?;
                self.write(at, Space::Shared, a, bytes)?;
            }
        }
        Ok(())
    }
}
