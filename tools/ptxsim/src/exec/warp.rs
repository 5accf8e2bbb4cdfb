//! Instructions that exchange data between the lanes of a warp.
use super::*;

impl<'a> Cluster<'a> {
    /// `mask`: the lanes taking part, all of them here.
    pub(super) fn warp_op(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        ps: Preds,
        mask: u32,
        op: &Op,
    ) -> R<()> {
        match op {
            Op::BarWarp(_) => {}
            Op::Shfl {
                mode,
                d,
                p,
                a,
                b,
                c,
                ..
            } => {
                let x = unsafe { *rf.p(*a) };
                let mut pr = 0;
                let mut z = [0u32; 32];
                #[allow(clippy::needless_range_loop)]
                for l in 0..32usize {
                    let bv = rf.get(*b, l) & 31;
                    let cv = rf.get(*c, l);
                    let seg = cv >> 8 & 31;
                    let clamp = cv & 31;
                    let maxl = (l as u32 & seg) | (clamp & !seg);
                    let minl = l as u32 & seg;
                    let (j, ok) = match mode {
                        ShflMode::Up => {
                            let j = l as i32 - bv as i32;
                            (j, j >= maxl as i32)
                        }
                        ShflMode::Down => {
                            let j = l as i32 + bv as i32;
                            (j, j <= maxl as i32)
                        }
                        ShflMode::Bfly => {
                            let j = (l as u32 ^ bv) as i32;
                            (j, j <= maxl as i32)
                        }
                        ShflMode::Idx => {
                            let j = (minl | (bv & !seg)) as i32;
                            (j, j <= maxl as i32)
                        }
                    };
                    let j = if ok { j as usize } else { l };
                    pr |= (ok as u32) << l;
                    z[l] = x[j & 31];
                    if mask >> l & 1 == 1 && mask >> (j & 31) & 1 == 0 {
                        z[l] = 0x7fff_ffff;
                        self.report(Policy::Warn, At { pc, wi, l }, 4, || {
                            format!("shfl reads lane {j}, which does not take part")
                        })?;
                    }
                }
                lanes(mask, |l| rf.set(*d, l, z[l]));
                ps.set(*p, mask, pr);
            }
            Op::Vote { kind, d, pd, p, m } => {
                let mm = rf.get(*m, mask.trailing_zeros() as usize) & mask;
                let v = ps.get(*p) & mm;
                match kind {
                    0 => ps.set(*pd, mask, if v == mm { !0 } else { 0 }),
                    1 => ps.set(*pd, mask, if v != 0 { !0 } else { 0 }),
                    2 => ps.set(*pd, mask, if v == mm || v == 0 { !0 } else { 0 }),
                    _ => lanes(mask, |l| rf.set(*d, l, v)),
                }
            }
            Op::Match {
                all, w64, d, pd, a, ..
            } => {
                let val = |l: usize| {
                    if *w64 {
                        rf.get64(*a, l)
                    } else {
                        rf.get(*a, l) as u64
                    }
                };
                let mut res = [0u32; 32];
                lanes(mask, |l| {
                    lanes(mask, |k| res[l] |= ((val(k) == val(l)) as u32) << k)
                });
                if *all {
                    let same = res[mask.trailing_zeros() as usize] == mask;
                    ps.set(*pd, mask, if same { !0 } else { 0 });
                    lanes(mask, |l| rf.set(*d, l, if same { mask } else { 0 }));
                } else {
                    lanes(mask, |l| rf.set(*d, l, res[l]));
                }
            }
            Op::Redux {
                op, signed, d, a, ..
            } => {
                let mut acc: Option<u32> = None;
                lanes(mask, |l| {
                    let v = rf.get(*a, l);
                    acc = Some(match acc {
                        None => v,
                        Some(x) => match op {
                            AtomOp::Add => x.wrapping_add(v),
                            AtomOp::And => x & v,
                            AtomOp::Or => x | v,
                            AtomOp::Xor => x ^ v,
                            AtomOp::Min if *signed => (x as i32).min(v as i32) as u32,
                            AtomOp::Max if *signed => (x as i32).max(v as i32) as u32,
                            AtomOp::Min => x.min(v),
                            _ => x.max(v),
                        },
                    });
                });
                lanes(mask, |l| rf.set(*d, l, acc.unwrap_or(0)));
            }
            Op::Elect { d, p, .. } => {
                let leader = mask.trailing_zeros();
                lanes(mask, |l| rf.set(*d, l, leader));
                ps.set(*p, mask, 1 << leader);
            }
            Op::Ldmatrix { trans, d, addr } => {
                let mut mats = vec![[[0u16; 8]; 8]; d.len()];
                for (mi, mat) in mats.iter_mut().enumerate() {
                    for (r, row) in mat.iter_mut().enumerate() {
                        let l = mi * 8 + r;
                        let a = self.ea(rf, addr, l);
                        if a & 15 != 0 {
                            return self.fail(
                                At { pc, wi, l },
                                format!("ldmatrix row address 0x{a:x} is not 16-byte aligned"),
                            );
                        }
                        let mut b = [0u8; 16];
                        self.read(At { pc, wi, l }, Sp::Shared, a, &mut b)?;
                        for (i, x) in row.iter_mut().enumerate() {
                            *x = u16::from_le_bytes([b[2 * i], b[2 * i + 1]]);
                        }
                    }
                }
                for (mi, mat) in mats.iter().enumerate() {
                    for l in 0..32 {
                        let (g, t) = (l / 4, l % 4);
                        let (x, y) = if *trans {
                            (mat[2 * t][g], mat[2 * t + 1][g])
                        } else {
                            (mat[g][2 * t], mat[g][2 * t + 1])
                        };
                        rf.set(d[mi], l, x as u32 | (y as u32) << 16);
                    }
                }
            }
            Op::Stmatrix { trans, s, addr } => {
                for (mi, sl) in s.iter().enumerate() {
                    let mut mat = [[0u16; 8]; 8];
                    for l in 0..32 {
                        let (g, t) = (l / 4, l % 4);
                        let v = rf.get(*sl, l);
                        if *trans {
                            mat[2 * t][g] = v as u16;
                            mat[2 * t + 1][g] = (v >> 16) as u16;
                        } else {
                            mat[g][2 * t] = v as u16;
                            mat[g][2 * t + 1] = (v >> 16) as u16;
                        }
                    }
                    for (r, row) in mat.iter().enumerate() {
                        let l = mi * 8 + r;
                        let a = self.ea(rf, addr, l);
                        if a & 15 != 0 {
                            return self.fail(
                                At { pc, wi, l },
                                format!("stmatrix row address 0x{a:x} is not 16-byte aligned"),
                            );
                        }
                        let mut b = [0u8; 16];
                        for i in 0..8 {
                            b[2 * i..2 * i + 2].copy_from_slice(&row[i].to_le_bytes());
                        }
                        self.write(At { pc, wi, l }, Sp::Shared, a, &b)?;
                    }
                }
            }
            Op::Mma(s) => {
                crate::mma::mma_sync(rf, s);
                self.stats.mma += 1;
            }
            _ => unreachable!(),
        }
        Ok(())
    }
}
