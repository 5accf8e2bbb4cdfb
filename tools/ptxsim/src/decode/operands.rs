//! Operands to slots.

use super::{Decoded, SHARED_START};
use crate::ir::*;
use crate::ptx::{Class, Kernel, Operand, Register};
use crate::ty::Ty;
use std::collections::HashMap;

/// Gives out slots: registers first, then a sink, then constants and special registers.
pub struct Decoder<'a> {
    kernel: &'a Kernel,
    args: &'a [Operand],
    constants: HashMap<u64, S>,
    specials: HashMap<Special, S>,
    next: S,
    uses: Vec<S>,
    defs: Vec<S>,
}

impl<'a> Decoder<'a> {
    pub fn new(kernel: &'a Kernel) -> Self {
        Self {
            kernel,
            args: &[],
            constants: HashMap::new(),
            specials: HashMap::new(),
            next: kernel.words + 2 * kernel.wides + 2,
            uses: vec![],
            defs: vec![],
        }
    }

    /// Starts an instruction.
    pub fn begin(&mut self, args: &'a [Operand]) {
        self.args = args;
        self.uses.clear();
        self.defs.clear();
    }

    /// Register slots that the instruction reads and writes.
    pub fn touched(&self) -> (&[S], &[S]) {
        (&self.uses, &self.defs)
    }

    pub fn finish(self, code: &mut Code) {
        code.slots = self.next;
        code.predicates = self.kernel.predicates + 2;
        code.constants = self.constants.into_iter().map(|(v, s)| (s, v)).collect();
        code.specials = self.specials.into_iter().map(|(v, s)| (s, v)).collect();
    }

    /// Where results go that nobody wants.
    pub fn sink(&self) -> S {
        self.kernel.words + 2 * self.kernel.wides
    }

    pub fn sink_predicate(&self) -> u32 {
        self.kernel.predicates
    }

    pub fn count(&self) -> usize {
        self.args.len()
    }

    pub fn arg(&self, i: usize) -> Decoded<&'a Operand> {
        let args = self.args;
        args.get(i)
            .ok_or_else(|| format!("expected more than {} operands", args.len()))
    }

    fn take(&mut self) -> S {
        self.next += 2;
        self.next - 2
    }

    pub fn constant(&mut self, v: u64) -> S {
        if let Some(slot) = self.constants.get(&v) {
            return *slot;
        }
        let slot = self.take();
        self.constants.insert(v, slot);
        slot
    }

    fn special(&mut self, special: Special) -> S {
        if let Some(slot) = self.specials.get(&special) {
            return *slot;
        }
        let slot = self.take();
        self.specials.insert(special, slot);
        slot
    }

    fn slots(&self, register: &Register) -> Decoded<std::ops::Range<S>> {
        match register.class {
            Class::Word => Ok(register.id..register.id + 1),
            Class::Wide => {
                let slot = self.kernel.words + 2 * register.id;
                Ok(slot..slot + 2)
            }
            Class::Predicate => Err("a predicate where a register belongs".into()),
        }
    }

    fn source(&mut self, operand: &Operand, ty: Ty) -> Decoded<S> {
        Ok(match operand {
            Operand::Register(register) => {
                let slots = self.slots(register)?;
                self.uses.extend(slots.clone());
                slots.start
            }
            Operand::Integer(v) => self.constant(*v as u64),
            Operand::Float(bits) => {
                if ty.bytes() != 4 {
                    return Err(format!("a constant of single precision for {ty:?}"));
                }
                self.constant(*bits as u64)
            }
            Operand::Double(bits) => {
                let v = match ty {
                    Ty::F64 | Ty::B64 => *bits,
                    Ty::F32 | Ty::B32 => (f64::from_bits(*bits) as f32).to_bits() as u64,
                    _ => return Err(format!("a constant of double precision for {ty:?}")),
                };
                self.constant(v)
            }
            Operand::Variable(Space::Shared, offset) => {
                self.special(Special::SharedAddr(SHARED_START + *offset as u32))
            }
            Operand::Variable(_, offset) => self.constant(*offset as u64),
            Operand::Special(name) => {
                let special = special(name).ok_or_else(|| format!("unsupported {name}"))?;
                self.special(special)
            }
            other => return Err(format!("{other:?} cannot be read")),
        })
    }

    fn destination(&mut self, operand: &Operand) -> Decoded<S> {
        match operand {
            Operand::Register(register) => {
                let slots = self.slots(register)?;
                self.defs.extend(slots.clone());
                Ok(slots.start)
            }
            Operand::Sink => Ok(self.sink()),
            other => Err(format!("{other:?} cannot be written")),
        }
    }

    pub fn src(&mut self, i: usize, ty: Ty) -> Decoded<S> {
        self.source(self.arg(i)?, ty)
    }

    pub fn dst(&mut self, i: usize) -> Decoded<S> {
        self.destination(self.arg(i)?)
    }

    /// `{a, b}`, or one operand alone.
    pub fn items(&self, i: usize) -> Decoded<&'a [Operand]> {
        Ok(match self.arg(i)? {
            Operand::Vector(items) => items,
            one => std::slice::from_ref(one),
        })
    }

    pub fn srcs(&mut self, i: usize, ty: Ty) -> Decoded<Vec<S>> {
        let items = self.items(i)?.iter();
        items.map(|item| self.source(item, ty)).collect()
    }

    pub fn dsts(&mut self, i: usize) -> Decoded<Vec<S>> {
        let items = self.items(i)?.iter();
        items.map(|item| self.destination(item)).collect()
    }

    /// Registers that are read and written.
    pub fn in_out(&mut self, i: usize) -> Decoded<Vec<S>> {
        self.srcs(i, Ty::B32)?;
        self.dsts(i)
    }

    pub fn is_wide(operand: &Operand) -> bool {
        matches!(operand, Operand::Register(r) if r.class == Class::Wide)
    }

    pub fn is_predicate(operand: &Operand) -> bool {
        matches!(operand, Operand::Register(r) | Operand::NotRegister(r) if r.class == Class::Predicate)
    }

    pub fn immediate(&self, i: usize) -> Decoded<i64> {
        match self.arg(i)? {
            Operand::Integer(v) => Ok(*v),
            _ => Err(format!("operand {i} must be a constant")),
        }
    }

    fn predicate_destination(&self, operand: &Operand) -> Decoded<u32> {
        match operand {
            Operand::Register(r) if r.class == Class::Predicate => Ok(r.id),
            Operand::Sink => Ok(self.sink_predicate()),
            other => Err(format!("{other:?} is no predicate")),
        }
    }

    pub fn pdst(&self, i: usize) -> Decoded<u32> {
        self.predicate_destination(self.arg(i)?)
    }

    /// `p|q`, the second optional.
    pub fn pdst_pair(&self, i: usize) -> Decoded<(u32, u32)> {
        match self.arg(i)? {
            Operand::Pair(p, q) => Ok((
                self.predicate_destination(p)?,
                self.predicate_destination(q)?,
            )),
            p => Ok((self.predicate_destination(p)?, self.sink_predicate())),
        }
    }

    /// `d|p`, the predicate optional.
    pub fn dst_pair(&mut self, i: usize) -> Decoded<(S, u32)> {
        match self.arg(i)? {
            Operand::Pair(d, p) => Ok((self.destination(d)?, self.predicate_destination(p)?)),
            d => Ok((self.destination(d)?, self.sink_predicate())),
        }
    }

    pub fn psrc(&self, i: usize) -> Decoded<PSrc> {
        match self.arg(i)? {
            Operand::Register(r) if r.class == Class::Predicate => Ok(PSrc {
                p: r.id,
                neg: false,
            }),
            Operand::NotRegister(r) if r.class == Class::Predicate => {
                Ok(PSrc { p: r.id, neg: true })
            }
            // The predicate after the sink is always true.
            Operand::Integer(v) => Ok(PSrc {
                p: self.sink_predicate() + 1,
                neg: *v == 0,
            }),
            other => Err(format!("{other:?} is no predicate")),
        }
    }

    pub fn is_memory(&self, i: usize) -> bool {
        matches!(self.args.get(i), Some(Operand::Memory(..)))
    }

    pub fn addr(&mut self, i: usize) -> Decoded<Addr> {
        let Operand::Memory(base, offset, _) = self.arg(i)? else {
            return Err(format!("operand {i} must be an address"));
        };
        let narrow = matches!(**base, Operand::Register(r) if r.class == Class::Word);
        Ok(Addr {
            slot: self.source(base, Ty::B64)?,
            wide: !narrow,
            offset: *offset,
        })
    }

    /// Those of `[map, {x, y}]`.
    pub fn coordinates(&mut self, i: usize) -> Decoded<Vec<S>> {
        let Operand::Memory(_, _, coordinates) = self.arg(i)? else {
            return Err(format!("operand {i} must be an address with coordinates"));
        };
        let coordinates = coordinates.iter();
        coordinates.map(|c| self.source(c, Ty::B32)).collect()
    }
}

fn special(name: &str) -> Option<Special> {
    let (base, axis) = name.split_once('.').unwrap_or((name, "x"));
    let axis = ["x", "y", "z"].iter().position(|a| *a == axis)?;
    Some(match base {
        "%tid" => Special::Tid(axis),
        "%ntid" => Special::Ntid(axis),
        "%ctaid" => Special::Ctaid(axis),
        "%nctaid" => Special::Nctaid(axis),
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%clusterid" => Special::ClusterId(axis),
        "%nclusterid" => Special::ClusterCount(axis),
        "%cluster_ctaid" => Special::CtaInCluster(axis),
        "%cluster_nctaid" => Special::ClusterShape(axis),
        "%cluster_ctarank" => Special::ClusterRank,
        "%cluster_nctarank" => Special::ClusterSize,
        "%is_explicit_cluster" => Special::IsCluster,
        "%smid" => Special::Zero,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Eq),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Lt),
        "%lanemask_le" => Special::LaneMask(LaneMask::Le),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Gt),
        "%lanemask_ge" => Special::LaneMask(LaneMask::Ge),
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        _ => return None,
    })
}
