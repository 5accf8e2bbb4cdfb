//! Moves, conversions, loads, stores, atomics, addresses.

use super::Decoded;
use super::opcode::Opcode;
use super::operands::Decoder;
use crate::ir::*;
use crate::ptx::Operand;
use crate::ty::Ty;

pub fn decode(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    Ok(Some(match o.name {
        "mov" => mov(d, o)?,
        "cvt" => cvt(d, o)?,
        "cvta" => cvta(d, o)?,
        "mapa" => mapa(d, o)?,
        "getctarank" => getctarank(d, o)?,
        "ld" => ld(d, o)?,
        "st" => st(d, o)?,
        "atom" | "red" => atom(d, o)?,
        _ => return Ok(None),
    }))
}

fn mov(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = o.ty()?;
    if ty == Ty::Pred {
        return Ok(Op::MovPredicate(d.pdst(0)?, d.psrc(1)?));
    }
    match (d.arg(0)?, d.arg(1)?) {
        (Operand::Vector(parts), _) => Ok(Op::Unpack {
            bits: ty.bits() / parts.len() as u32,
            a: d.src(1, ty)?,
            parts: d.dsts(0)?.into(),
        }),
        (_, Operand::Vector(parts)) => Ok(Op::Pack {
            bits: ty.bits() / parts.len() as u32,
            parts: d.srcs(1, ty)?.into(),
            d: d.dst(0)?,
        }),
        (_, Operand::Special(name)) if name.starts_with("%clock") || name == "%globaltimer" => {
            Ok(Op::Clock(ty.bytes(), d.dst(0)?))
        }
        _ => {
            let (a, z) = (d.src(1, ty)?, d.dst(0)?);
            Ok(copy(ty.bytes() == 8, z, a))
        }
    }
}

fn copy(wide: bool, d: S, a: S) -> Op {
    if wide {
        Op::Mov64(d, a)
    } else {
        Op::Mov32(d, a)
    }
}

fn cvt(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    if o.has("tf32") {
        return cvt_tf32(d, o);
    }
    let [to, from] = o.types()[..] else {
        return Err("unsupported types".into());
    };
    let packed = d.count() == 3;
    if packed != to.pair() || from.pair() || packed && from != Ty::F32 {
        return Err("unsupported types".into());
    }
    check_double(o, to, from)?;
    let integral = o.integral_rounding();
    let a = d.src(1, from)?;
    Ok(Op::Convert(Box::new(Conversion {
        from,
        to,
        rounding: o.rounding().or(integral),
        to_integer: integral.is_some(),
        sat: o.has("sat"),
        satfinite: o.has("satfinite"),
        relu: o.has("relu"),
        ftz: o.has("ftz"),
        b: if packed { Some(d.src(2, from)?) } else { None },
        wide: Decoder::is_wide(d.arg(0)?),
        d: d.dst(0)?,
        a,
    })))
}

/// To double precision only to nearest, where rounding is needed at all.
fn check_double(o: &Opcode, to: Ty, from: Ty) -> Decoded<()> {
    let directed = o.rounding().is_some_and(|r| r != Rounding::Nearest);
    match [to, from].contains(&Ty::F64) {
        true if to == Ty::F64 && directed => Err("unsupported rounding".into()),
        true if o.has("relu") || o.has("satfinite") => Err("unsupported from or to f64".into()),
        _ => Ok(()),
    }
}

fn cvt_tf32(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let types = o.all(|m| matches!(m, "tf32" | "f32").then_some(m));
    if o.types() != [Ty::F32] || types != ["tf32", "f32"] {
        return Err("unsupported types".into());
    }
    let rounding = match (o.has("rna"), o.rounding()) {
        (true, None) => TowardTf32::NearestAway,
        (false, Some(Rounding::Nearest)) => TowardTf32::NearestEven,
        (false, Some(Rounding::Zero)) => TowardTf32::Zero,
        _ => return Err("unsupported rounding".into()),
    };
    let how = ToTf32 {
        rounding,
        relu: o.has("relu"),
        satfinite: o.has("satfinite"),
    };
    if how.relu && o.has("rna") {
        return Err("unsupported rounding with .relu".into());
    }
    let (a, z) = (d.src(1, Ty::F32)?, d.dst(0)?);
    Ok(Op::ToTf32(how, z, a))
}

fn cvta(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    if o.ty()?.bytes() != 8 {
        return Err("unsupported with 32-bit addresses".into());
    }
    let (to, space) = (o.has("to"), o.space());
    let (a, z) = (d.src(1, Ty::B64)?, d.dst(0)?);
    Ok(match space {
        Space::Global => Op::Mov64(z, a),
        space if to => Op::FromGeneric(space, z, a),
        space => Op::ToGeneric(space, z, a),
    })
}

fn mapa(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = o.ty()?;
    o.space();
    Ok(Op::Mapa {
        a: d.src(1, ty)?,
        rank: d.src(2, Ty::B32)?,
        d: d.dst(0)?,
        wide: ty.bytes() == 8,
    })
}

/// The rank is in the top byte of a shared address.
fn getctarank(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    o.space();
    let a = d.src(1, o.ty()?)?;
    let (position, length) = (d.constant(24), d.constant(8));
    let op = Int3::Bfe { signed: false };
    Ok(Op::Int3(op, d.dst(0)?, [a, position, length]))
}

/// `.v2`, `.v4`, `.v8` agree with the number of operands, which is what counts.
fn vector(o: &Opcode) {
    o.all(|m| matches!(m, "v2" | "v4" | "v8").then_some(()));
}

fn ld(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    vector(o);
    let (ty, space, addr) = (o.ty()?, o.space(), d.addr(1)?);
    let wide = d.items(0)?.iter().map(Decoder::is_wide);
    let extends = wide.map(|wide| match (ty.bytes(), wide, ty.signed()) {
        (8, ..) => Extend::None,
        (_, true, false) => Extend::Zero64,
        (_, true, true) => Extend::Signed64,
        (1 | 2, false, true) => Extend::Signed32,
        _ => Extend::None,
    });
    let extends: Vec<_> = extends.collect();
    Ok(Op::Ld {
        space,
        bytes: ty.bytes(),
        addr,
        d: d.dsts(0)?.into_iter().zip(extends).collect(),
    })
}

fn st(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    vector(o);
    let ty = o.ty()?;
    Ok(Op::St {
        space: o.space(),
        bytes: ty.bytes(),
        addr: d.addr(0)?,
        s: d.srcs(1, ty)?.into(),
    })
}

fn atom(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    vector(o);
    let ty = o.ty()?;
    let op = match o.reduction() {
        Some(reduction) => Atomic::Reduce(reduction),
        None if o.has("exch") => Atomic::Exchange,
        None if o.has("cas") => Atomic::CompareAndSwap,
        None => return Err("unsupported operation".into()),
    };
    let first = (o.name == "atom") as usize;
    let swap = op == Atomic::CompareAndSwap;
    Ok(Op::Atom(Box::new(Atom {
        space: o.space(),
        op,
        ty,
        addr: d.addr(first)?,
        b: d.srcs(first + 1, ty)?,
        c: if swap {
            Some(d.src(first + 2, ty)?)
        } else {
            None
        },
        d: if first == 1 { d.dsts(0)? } else { vec![] },
    })))
}
