//! Raw statements -> `ir::Inst`.
mod lint;
mod ordinary;
mod tensor;

use crate::ir::*;
use crate::parse::*;
use std::collections::HashMap;

/// Shared memory starts here in the shared window (the first KiB is reserved, as on sm_90).
pub const SMEM0: i64 = 1024;

type R<T> = Result<T, String>;

struct D<'a> {
    k: &'a Kernel,
    consts: HashMap<u64, S>,
    specials: HashMap<Special, S>,
    next: u32,
    u: Vec<S>,
    w: Vec<S>,
    sink: S,
    psink: u32,
}

impl D<'_> {
    fn slot(&self, r: VReg) -> S {
        match r.class {
            RegClass::R32 => r.id,
            RegClass::R64 => self.k.n32 + 2 * r.id,
            RegClass::Pred => NO,
        }
    }
    fn konst(&mut self, v: u64) -> S {
        if let Some(s) = self.consts.get(&v) {
            return *s;
        }
        let s = self.next;
        self.next = s + 2;
        self.consts.insert(v, s);
        s
    }
    fn special(&mut self, sp: Special) -> S {
        if let Some(s) = self.specials.get(&sp) {
            return *s;
        }
        let s = self.next;
        self.next += 2;
        self.specials.insert(sp, s);
        s
    }
    fn is64(&self, o: &Operand) -> bool {
        matches!(
            o,
            Operand::Reg(VReg {
                class: RegClass::R64,
                ..
            })
        )
    }
    fn src(&mut self, o: &Operand, ty: Ty) -> R<S> {
        Ok(match o {
            Operand::Reg(r) if r.class != RegClass::Pred => {
                let s = self.slot(*r);
                self.u.push(s);
                if r.class == RegClass::R64 {
                    self.u.push(s + 1);
                }
                s
            }
            Operand::Int(v) => match ty {
                Ty::F64 => self.konst((*v as f64).to_bits()),
                _ => self.konst(*v as u64),
            },
            Operand::F32(b) => match ty {
                Ty::F64 => self.konst((f32::from_bits(*b) as f64).to_bits()),
                _ => self.konst(*b as u64),
            },
            Operand::F64(v) => match ty {
                Ty::F32 => self.konst((*v as f32).to_bits() as u64),
                Ty::F16 => self.konst(half::f16::from_f64(*v).to_bits() as u64),
                Ty::BF16 => self.konst(half::bf16::from_f64(*v).to_bits() as u64),
                _ => self.konst(v.to_bits()),
            },
            Operand::Var(Space::Shared, off) => {
                self.special(Special::SharedAddr((*off + SMEM0) as u32))
            }
            Operand::Var(_, off) => self.konst(*off as u64),
            Operand::Special(n) => {
                let ax = |s: &str| match s.rsplit('.').next() {
                    Some("y") => 1u8,
                    Some("z") => 2,
                    _ => 0,
                };
                let base = n.split('.').next().unwrap_or("");
                let sp = match base {
                    "%tid" => Special::Tid(ax(n)),
                    "%ntid" => Special::Ntid(ax(n)),
                    "%ctaid" => Special::Ctaid(ax(n)),
                    "%nctaid" => Special::Nctaid(ax(n)),
                    "%laneid" => Special::Lane,
                    "%warpid" => Special::Warp,
                    "%nwarpid" => Special::NWarp,
                    "%clusterid" => Special::ClusterId(ax(n)),
                    "%nclusterid" => Special::NClusterId(ax(n)),
                    "%cluster_ctaid" => Special::ClusterCtaid(ax(n)),
                    "%cluster_nctaid" => Special::ClusterNctaid(ax(n)),
                    "%cluster_ctarank" => Special::ClusterRank,
                    "%cluster_nctarank" => Special::ClusterSize,
                    "%is_explicit_cluster" => Special::ExplicitCluster,
                    "%smid" | "%gridid" => Special::Zero,
                    "%nsmid" => Special::One,
                    "%lanemask_eq" => Special::LaneMask(0),
                    "%lanemask_lt" => Special::LaneMask(1),
                    "%lanemask_le" => Special::LaneMask(2),
                    "%lanemask_gt" => Special::LaneMask(3),
                    "%lanemask_ge" => Special::LaneMask(4),
                    "%dynamic_smem_size" => Special::DynSmem,
                    "%total_smem_size" => Special::TotalSmem,
                    _ => return Err(format!("unknown special register {n}")),
                };
                self.special(sp)
            }
            o => return Err(format!("unsupported source operand {o:?}")),
        })
    }
    fn dst(&mut self, o: &Operand) -> R<S> {
        Ok(match o {
            Operand::Reg(r) if r.class != RegClass::Pred => {
                let s = self.slot(*r);
                self.w.push(s);
                if r.class == RegClass::R64 {
                    self.w.push(s + 1);
                }
                s
            }
            Operand::Sink => self.sink,
            o => return Err(format!("unsupported destination operand {o:?}")),
        })
    }
    fn pdst(&mut self, o: &Operand) -> R<u32> {
        match o {
            Operand::Reg(VReg {
                class: RegClass::Pred,
                id,
            }) => Ok(*id),
            Operand::Sink => Ok(self.psink),
            o => Err(format!("expected a predicate destination, found {o:?}")),
        }
    }
    fn psrc(&mut self, o: &Operand) -> R<PSrc> {
        match o {
            Operand::Reg(VReg {
                class: RegClass::Pred,
                id,
            }) => Ok(PSrc { p: *id, neg: false }),
            Operand::NotReg(VReg {
                class: RegClass::Pred,
                id,
            }) => Ok(PSrc { p: *id, neg: true }),
            // the constant predicates: psink + 1 is always true
            Operand::Int(v) => Ok(PSrc {
                p: self.psink + 1,
                neg: *v == 0,
            }),
            o => Err(format!("expected a predicate, found {o:?}")),
        }
    }
    /// `d`, `d|p`
    fn dpair(&mut self, o: &Operand) -> R<(S, u32)> {
        match o {
            Operand::Pair(a, b) => Ok((self.dst(a)?, self.pdst(b)?)),
            o => Ok((self.dst(o)?, self.psink)),
        }
    }
    fn addr(&mut self, o: &Operand) -> R<Addr> {
        match o {
            Operand::Mem(b, off, _) => {
                let w64 = !matches!(
                    **b,
                    Operand::Reg(VReg {
                        class: RegClass::R32,
                        ..
                    })
                );
                Ok(Addr {
                    slot: self.src(b, Ty::B64)?,
                    w64,
                    off: *off,
                })
            }
            o => Err(format!("expected an address, found {o:?}")),
        }
    }
    fn list<'b>(&self, o: &'b Operand) -> Vec<&'b Operand> {
        match o {
            Operand::Vec(v) => v.iter().collect(),
            o => vec![o],
        }
    }
    fn srcs(&mut self, o: &Operand, ty: Ty) -> R<Vec<S>> {
        self.list(o).into_iter().map(|x| self.src(x, ty)).collect()
    }
    fn dsts(&mut self, o: &Operand) -> R<Vec<S>> {
        self.list(o).into_iter().map(|x| self.dst(x)).collect()
    }
}

fn space(mods: &[&str]) -> Sp {
    for m in mods {
        match *m {
            "global" | "const" => return Sp::Global,
            "shared" | "shared::cta" => return Sp::Shared,
            "shared::cluster" => return Sp::Cluster,
            "local" => return Sp::Local,
            "param" | "param::entry" | "param::func" => return Sp::Param,
            _ => {}
        }
    }
    Sp::Generic
}

fn rnd(mods: &[&str]) -> Option<Rnd> {
    mods.iter().find_map(|m| {
        Some(match *m {
            "rn" => Rnd::Rn,
            "rz" => Rnd::Rz,
            "rm" => Rnd::Rm,
            "rp" => Rnd::Rp,
            "rna" => Rnd::Rna,
            "rni" => Rnd::Rni,
            "rzi" => Rnd::Rzi,
            "rmi" => Rnd::Rmi,
            "rpi" => Rnd::Rpi,
            _ => return None,
        })
    })
}

fn cmp(s: &str, ty: Ty) -> Option<(Cmp, Ty)> {
    let unsign = |t: Ty| match t {
        Ty::S32 | Ty::B32 => Ty::U32,
        Ty::S64 | Ty::B64 => Ty::U64,
        Ty::S16 | Ty::B16 => Ty::U16,
        t => t,
    };
    Some(match s {
        "eq" => (Cmp::Eq, ty),
        "ne" => (Cmp::Ne, ty),
        "lt" => (Cmp::Lt, ty),
        "le" => (Cmp::Le, ty),
        "gt" => (Cmp::Gt, ty),
        "ge" => (Cmp::Ge, ty),
        "lo" => (Cmp::Lt, unsign(ty)),
        "ls" => (Cmp::Le, unsign(ty)),
        "hi" => (Cmp::Gt, unsign(ty)),
        "hs" => (Cmp::Ge, unsign(ty)),
        "equ" => (Cmp::Equ, ty),
        "neu" => (Cmp::Neu, ty),
        "ltu" => (Cmp::Ltu, ty),
        "leu" => (Cmp::Leu, ty),
        "gtu" => (Cmp::Gtu, ty),
        "geu" => (Cmp::Geu, ty),
        "num" => (Cmp::Num, ty),
        "nan" => (Cmp::Nan, ty),
        _ => return None,
    })
}

fn redop(mods: &[&str]) -> Option<RedOp> {
    mods.iter().find_map(|m| {
        Some(match *m {
            "add" => RedOp::Add,
            "min" => RedOp::Min,
            "max" => RedOp::Max,
            "and" => RedOp::And,
            "or" => RedOp::Or,
            "xor" => RedOp::Xor,
            "inc" => RedOp::Inc,
            "dec" => RedOp::Dec,
            _ => return None,
        })
    })
}

pub fn decode(k: &Kernel) -> Result<Code, ParseError> {
    let base = k.n32 + 2 * k.n64;
    let mut d = D {
        k,
        consts: HashMap::new(),
        specials: HashMap::new(),
        next: base + 2,
        u: vec![],
        w: vec![],
        sink: base,
        psink: k.npred,
    };
    let mut code = Code {
        insts: Vec::with_capacity(k.insts.len() + 1),
        uses: vec![],
        defs: vec![],
        nslots: 0,
        npred: k.npred + 2,
        consts: vec![],
        specials: vec![],
        reg_names: vec![],
        lint: vec![],
    };
    for r in &k.insts {
        d.u.clear();
        d.w.clear();
        let op = ordinary::decode(&mut d, r).map_err(|m| ParseError {
            line: r.line,
            msg: format!("{}: {m}", r.op),
        })?;
        let u0 = code.uses.len() as u32;
        code.uses.extend(d.u.iter().filter(|s| **s < base));
        let w0 = code.defs.len() as u32;
        code.defs.extend(d.w.iter().filter(|s| **s < base));
        code.insts.push(Inst {
            op,
            guard: r.guard.map(|(p, neg)| PSrc { p: p.id, neg }),
            line: r.line,
            uses: (u0, code.uses.len() as u32),
            defs: (w0, code.defs.len() as u32),
        });
    }
    // falling off the end
    let line = k.insts.last().map_or(0, |i| i.line);
    code.insts.push(Inst {
        op: Op::Exit,
        guard: None,
        line,
        uses: (0, 0),
        defs: (0, 0),
    });
    code.nslots = d.next;
    code.consts = d.consts.into_iter().map(|(v, s)| (s, v)).collect();
    code.specials = d.specials.into_iter().map(|(v, s)| (s, v)).collect();
    code.reg_names = vec![String::new(); base as usize];
    for ((c, id), n) in &k.names {
        if *c == RegClass::R32 as u8 {
            code.reg_names[*id as usize] = n.clone();
        } else if *c == RegClass::R64 as u8 {
            code.reg_names[(k.n32 + 2 * id) as usize] = n.clone();
            code.reg_names[(k.n32 + 2 * id) as usize + 1] = n.clone() + ".hi";
        }
    }
    code.lint = lint::wgmma_fences(k, &code);
    Ok(code)
}
