//! wgmma: agreement of the four warps, execution, registers in flight.
use super::*;

#[derive(Clone, Copy)]
struct WgOp {
    pc: u32,
    da: u64,
    db: u64,
    scale_d: bool,
}

/// The wgmmas of one warpgroup, in program order.
#[derive(Default)]
pub struct Wg {
    ops: Vec<WgOp>,
    pub issued: [usize; 4],
    pub executed: usize,
    /// op index -> eager in random mode
    eager: Vec<bool>,
}

impl<'a> Cluster<'a> {
    pub(super) fn wg_issue(&mut self, pc: u32, wi: usize, rf: Rf, ps: Preds, s: &WgSpec) -> R<()> {
        let (cta, g) = self.wg_of(wi);
        let k = self.wg_warp(wi);
        if self.warps_per_cta < (g + 1) * 4 || self.warps[wi].present != !0 {
            return self.fail(
                At { pc, wi, l: 0 },
                "wgmma needs a full warpgroup of 128 threads",
            );
        }
        let uni = |x: S| -> Option<u64> {
            let v = rf.get64(x, 0);
            (1..32).all(|l| rf.get64(x, l) == v).then_some(v)
        };
        let da = match &s.a {
            WgA::Desc(d) => match uni(*d) {
                Some(v) => v,
                None => {
                    return self.fail(
                        At { pc, wi, l: 0 },
                        "the A descriptor differs between the lanes of a warp",
                    );
                }
            },
            _ => 0,
        };
        let Some(db) = uni(s.b) else {
            return self.fail(
                At { pc, wi, l: 0 },
                "the B descriptor differs between the lanes of a warp",
            );
        };
        let scale_d = match s.scale_d {
            WgScale::Imm(b) => b,
            WgScale::Pred(p) => {
                let v = ps.get(p);
                if v != 0 && v != !0 {
                    return self.fail(
                        At { pc, wi, l: 0 },
                        "scale-d differs between the lanes of a warp",
                    );
                }
                v != 0
            }
        };
        let eager = self.eager_choice();
        let wg = &mut self.ctas[cta].wgs[g];
        let idx = wg.issued[k];
        if let Some(o) = wg.ops.get(idx) {
            if (o.pc, o.da, o.db, o.scale_d) != (pc, da, db, scale_d) {
                let (opc, oa, ob, od) = (o.pc, o.da, o.db, o.scale_d);
                let line = self.line(opc);
                return self.fail(
                    At { pc, wi, l: 0 },
                    format!(
                        "the warps of warpgroup {g} disagree about wgmma {idx}: line {line} A {oa:x} B {ob:x} d {od} against A {da:x} B {db:x} d {scale_d}"
                    ),
                );
            }
        } else {
            wg.ops.push(WgOp {
                pc,
                da,
                db,
                scale_d,
            });
            wg.eager.push(eager);
            self.stats.wgmma += 1;
        }
        wg.issued[k] += 1;
        self.flag(wi, s);
        // eager: as soon as the whole warpgroup has issued it
        loop {
            let w = &self.ctas[cta].wgs[g];
            let all = *w.issued.iter().min().unwrap();
            if w.executed < all && w.eager[w.executed] {
                self.wg_exec(cta, g)?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Position of a warp in its warpgroup.
    fn wg_warp(&self, wi: usize) -> usize {
        self.warps[wi].thread0 / 32 % 4
    }

    pub(super) fn wg_commit(&mut self, wi: usize) {
        let (cta, g) = self.wg_of(wi);
        let n = self.ctas[cta].wgs[g].issued[self.wg_warp(wi)];
        self.warps[wi].wg_commits.push(n);
    }

    /// wait_group: `Err(n)` while other warps have not issued the `n` wgmmas it needs.
    pub(super) fn wg_wait(&mut self, wi: usize, n: u32) -> R<Result<(), usize>> {
        let (cta, g) = self.wg_of(wi);
        let c = &self.warps[wi].wg_commits;
        let t = if c.len() > n as usize {
            c[c.len() - 1 - n as usize]
        } else {
            0
        };
        if self.ctas[cta].wgs[g].issued.iter().any(|x| *x < t) {
            return Ok(Err(t));
        }
        while self.ctas[cta].wgs[g].executed < t {
            self.wg_exec(cta, g)?;
        }
        self.wg_retire(wi, t);
        Ok(Ok(()))
    }

    /// Marks the registers of an outstanding wgmma.
    fn flag(&mut self, wi: usize, s: &WgSpec) {
        let w = &mut self.warps[wi];
        let mut set = |x: S, v: u8| {
            let f = &mut w.inflight[x as usize];
            if *f == 0 {
                w.ninflight += 1;
            }
            *f = (*f).max(v);
        };
        for d in &s.d {
            set(*d, 2);
        }
        if let WgA::Regs(r) = &s.a {
            for x in r {
                set(*x, 1);
            }
        }
    }

    fn wg_retire(&mut self, wi: usize, target: usize) {
        let w = &mut self.warps[wi];
        if target <= w.wg_retired {
            return;
        }
        w.wg_retired = target;
        w.inflight.fill(0);
        w.ninflight = 0;
        let code: &'a Code = self.run.code;
        let (cta, g) = self.wg_of(wi);
        let g = &self.ctas[cta].wgs[g];
        let pcs: Vec<u32> = g.ops[target..g.issued[self.wg_warp(wi)]]
            .iter()
            .map(|o| o.pc)
            .collect();
        for pc in pcs {
            if let Op::WgMma(s) = &code.insts[pc as usize].op {
                self.flag(wi, s);
            }
        }
    }

    #[cold]
    pub(super) fn check_inflight(&mut self, pc: u32, wi: usize, em: u32) -> R<()> {
        if self.run.cfg.inflight == Policy::Ignore {
            return Ok(());
        }
        let code: &'a Code = self.run.code;
        let inst = &code.insts[pc as usize];
        let mut bad: Option<(S, &str)> = None;
        {
            let f = &self.warps[wi].inflight;
            if let Op::WgMma(s) = &inst.op {
                // accumulators may be chained; A registers may not be someone's pending accumulator
                if let WgA::Regs(r) = &s.a {
                    for x in r {
                        if f[*x as usize] == 2 {
                            bad = Some((*x, "is used as A operand"));
                        }
                    }
                }
            } else {
                for x in &code.uses[inst.uses.0 as usize..inst.uses.1 as usize] {
                    if f[*x as usize] == 2 {
                        bad = Some((*x, "is read"));
                    }
                }
                for x in &code.defs[inst.defs.0 as usize..inst.defs.1 as usize] {
                    if f[*x as usize] != 0 {
                        bad = Some((*x, "is overwritten"));
                    }
                }
            }
        }
        if let Some((x, what)) = bad {
            let name = code.reg_names[x as usize].clone();
            let kind = if self.warps[wi].inflight[x as usize] == 2 {
                "accumulator"
            } else {
                "A operand"
            };
            return self.report(
                self.run.cfg.inflight,
                At {
                    pc,
                    wi,
                    l: em.trailing_zeros() as usize,
                },
                2,
                || format!("{name}, {kind} of a wgmma that was not waited for, {what}"),
            );
        }
        Ok(())
    }

    fn wg_exec(&mut self, cta: usize, g: usize) -> R<()> {
        self.events += 1;
        let wg = &mut self.ctas[cta].wgs[g];
        let WgOp {
            pc,
            da,
            db,
            scale_d,
        } = wg.ops[wg.executed];
        wg.executed += 1;
        let wi = cta * self.warps_per_cta + g * 4;
        let code: &'a Code = self.run.code;
        let Op::WgMma(s) = &code.insts[pc as usize].op else {
            unreachable!()
        };
        let rfs: [Rf; 4] = std::array::from_fn(|k| Rf(self.warps[wi + k].regs.as_mut_ptr()));
        let b = self.matrix(At { pc, wi, l: 0 }, db, s.trans_b, s.n, s.k, s.ty)?;
        let a = match &s.a {
            WgA::Desc(_) => Some(self.matrix(At { pc, wi, l: 0 }, da, s.trans_a, 64, s.k, s.ty)?),
            _ => None,
        };
        for (k, rf) in rfs.iter().enumerate() {
            crate::mma::wgmma_warp(*rf, s, k, a.as_deref(), &b, scale_d);
        }
        Ok(())
    }

    /// Reads an operand through a matrix descriptor: `[k][mn]` as f32.
    fn matrix(
        &mut self,
        at: At,
        desc: u64,
        mn_major: bool,
        mn: usize,
        kk: usize,
        ty: Ty,
    ) -> R<Vec<f32>> {
        let es = ty.bytes();
        let t = 16 / es;
        let d = crate::mma::Desc::decode(desc);
        let mut out = vec![0f32; mn * kk];
        let (s0, cta) = (SMEM0 as u64, self.cta_of(at.wi));
        let (outer, inner) = if mn_major { (kk, mn) } else { (mn, kk) };
        for o in 0..outer {
            for u in 0..inner / t {
                let a = d.address(mn_major, o, u);
                if a < s0 || a + 16 > s0 + self.run.smem_size as u64 {
                    return self.fail(at, format!("wgmma operand at shared address 0x{a:x} is out of bounds (descriptor {desc:016x})"));
                }
                let p = Loc {
                    cta,
                    o: (a - s0) as usize,
                };
                self.async_read_check(at, p, 16)?;
                let b = &self.ctas[cta].smem[p.o..p.o + 16];
                for e in 0..t {
                    let v = match ty {
                        Ty::BF16 => f32::from_bits(
                            (u16::from_le_bytes([b[2 * e], b[2 * e + 1]]) as u32) << 16,
                        ),
                        Ty::F16 => half::f16::from_le_bytes([b[2 * e], b[2 * e + 1]]).to_f32(),
                        _ => f32::from_bits(
                            u32::from_le_bytes(b[4 * e..4 * e + 4].try_into().unwrap()) & !0x1fff,
                        ),
                    };
                    let x = u * t + e;
                    let (k, m) = if mn_major { (o, x) } else { (x, o) };
                    out[k * mn + m] = v;
                }
            }
        }
        Ok(out)
    }
}
