//! Integer and float arithmetic, comparisons, logic.

use super::Decoded;
use super::opcode::Opcode;
use super::operands::Decoder;
use crate::ir::*;
use crate::ty::Ty;

pub fn decode(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    Ok(Some(match o.name {
        "setp" => setp(d, o)?,
        "selp" => select(d, o)?,
        "and" | "or" | "xor" | "not" if o.ty()? == Ty::Pred => boolean(d, o)?,
        "mul" if o.has("wide") => Op::MulWide(integer(o)?, d.dst(0)?, pair(d, o.ty()?)?),
        "mad" if o.has("wide") => Op::MadWide(integer(o)?, d.dst(0)?, triple(d, o.ty()?)?),
        "mad" => mad(d, o)?,
        "fma" => fma(d, o)?,
        "bfe" | "shf" | "prmt" | "lop3" => ternary(d, o)?,
        "bfi" => bfi(d, o)?,
        _ => {
            if let Some(op) = unary(d, o)? {
                op
            } else if let Some(op) = binary(d, o)? {
                op
            } else {
                return Ok(None);
            }
        }
    }))
}

fn pair(d: &mut Decoder, ty: Ty) -> Decoded<[S; 2]> {
    Ok([d.src(1, ty)?, d.src(2, ty)?])
}

fn triple(d: &mut Decoder, ty: Ty) -> Decoded<[S; 3]> {
    Ok([d.src(1, ty)?, d.src(2, ty)?, d.src(3, ty)?])
}

fn integer(o: &Opcode) -> Decoded<Ty> {
    match o.ty()? {
        ty if ty.float() || ty == Ty::Pred => Err(format!("unsupported type {ty:?}")),
        ty => Ok(ty),
    }
}

fn float(o: &Opcode) -> Decoded<Ty> {
    match o.ty()? {
        ty if ty.float() => Ok(ty),
        ty => Err(format!("unsupported type {ty:?}")),
    }
}

/// Double precision rounds to nearest, and has nothing else to choose.
fn check_double(o: &Opcode, ty: Ty) -> Decoded<()> {
    if ty != Ty::F64 {
        return Ok(());
    }
    let flavour = o.flavour();
    match flavour.plain() && !flavour.relu && !flavour.nan && !o.has("approx") {
        true => Ok(()),
        false => Err("unsupported modifier for f64".into()),
    }
}

/// The flavour of an instruction that only rounds to nearest here.
fn nearest(o: &Opcode) -> Decoded<Flavour> {
    match o.flavour() {
        f if f.rounding == Rounding::Nearest => Ok(f),
        f => Err(format!("unsupported rounding: {:?}", f.rounding)),
    }
}

fn unary(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    let is_float = o.types().last().is_some_and(|ty| ty.float());
    let float1 = match o.name {
        "neg" if is_float => Some(Float1::Neg),
        "abs" if is_float => Some(Float1::Abs),
        "ex2" => Some(Float1::Ex2),
        "lg2" => Some(Float1::Lg2),
        "rcp" => Some(Float1::Rcp),
        "rsqrt" => Some(Float1::Rsqrt),
        "sqrt" => Some(Float1::Sqrt),
        "tanh" => Some(Float1::Tanh),
        _ => None,
    };
    if let Some(op) = float1 {
        let ty = float(o)?;
        check_double(o, ty)?;
        let exact = matches!(op, Float1::Neg | Float1::Abs | Float1::Rcp | Float1::Sqrt);
        if ty == Ty::F64 && !exact {
            return Err("unsupported type F64".into());
        }
        let (a, z) = (d.src(1, ty)?, d.dst(0)?);
        return Ok(Some(Op::Float1(op, ty, nearest(o)?, z, a)));
    }
    let op = match o.name {
        "neg" => Int1::Neg,
        "not" => Int1::Not,
        "abs" => Int1::Abs,
        "popc" => Int1::Popc,
        "clz" => Int1::Clz,
        "brev" => Int1::Brev,
        _ => return Ok(None),
    };
    let ty = integer(o)?;
    let (a, z) = (d.src(1, ty)?, d.dst(0)?);
    Ok(Some(Op::Int1(op, ty, z, a)))
}

fn binary(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    if o.types().last().is_some_and(|ty| ty.float()) {
        return float_binary(d, o);
    }
    let op = match o.name {
        "add" => Int2::Add,
        "sub" => Int2::Sub,
        "mul" if o.has("hi") => Int2::MulHi,
        "mul" => Int2::Mul,
        "div" => Int2::Div,
        "rem" => Int2::Rem,
        "min" => Int2::Min,
        "max" => Int2::Max,
        "and" => Int2::And,
        "or" => Int2::Or,
        "xor" => Int2::Xor,
        "shl" => Int2::Shl,
        "shr" => Int2::Shr,
        _ => return Ok(None),
    };
    let ty = integer(o)?;
    let (s, z) = (pair(d, ty)?, d.dst(0)?);
    Ok(Some(Op::Int2(op, ty, z, s)))
}

fn float_binary(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    let ty = float(o)?;
    let (op, flavour) = match o.name {
        "add" => (Float2::Add, o.flavour()),
        "sub" => (Float2::Sub, o.flavour()),
        "mul" => (Float2::Mul, o.flavour()),
        "div" => (Float2::Div, nearest(o)?),
        "min" => (Float2::Min, nearest(o)?),
        "max" => (Float2::Max, nearest(o)?),
        _ => return Ok(None),
    };
    check_double(o, ty)?;
    if d.count() > 3 {
        return Err("unsupported with three operands".into());
    }
    let (s, z) = (pair(d, ty)?, d.dst(0)?);
    Ok(Some(Op::Float2(op, ty, flavour, z, s)))
}

fn mad(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = integer(o)?;
    let s = triple(d, ty)?;
    Ok(Op::Mad {
        high: o.has("hi"),
        ty,
        d: d.dst(0)?,
        s,
    })
}

fn fma(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = float(o)?;
    check_double(o, ty)?;
    let (s, z) = (triple(d, ty)?, d.dst(0)?);
    Ok(Op::Fma(ty, o.flavour(), z, s))
}

fn ternary(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = integer(o)?;
    if ty.bytes() != 4 {
        return Err(format!("unsupported type {ty:?}"));
    }
    let op = match o.name {
        "bfe" => Int3::Bfe {
            signed: ty.signed(),
        },
        "shf" => Int3::Shf {
            left: o.has("l") || !o.has("r"),
            wrap: o.has("wrap") || !o.has("clamp"),
        },
        "prmt" => Int3::Prmt,
        _ => Int3::Lop3(d.immediate(4)? as u8),
    };
    let (s, z) = (triple(d, ty)?, d.dst(0)?);
    Ok(Op::Int3(op, z, s))
}

fn bfi(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = integer(o)?;
    Ok(Op::Bfi {
        ty,
        a: d.src(1, ty)?,
        b: d.src(2, ty)?,
        position: d.src(3, Ty::B32)?,
        length: d.src(4, Ty::B32)?,
        d: d.dst(0)?,
    })
}

fn boolean(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (p, a) = (d.pdst(0)?, d.psrc(1)?);
    let op = match o.name {
        "not" => return Ok(Op::MovPredicate(p, PSrc { neg: !a.neg, ..a })),
        "and" => Boolean::And,
        "or" => Boolean::Or,
        _ => Boolean::Xor,
    };
    Ok(Op::Boolean(op, p, a, d.psrc(2)?))
}

fn select(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = o.ty()?;
    let [a, b] = pair(d, ty)?;
    Ok(Op::Select {
        bytes: ty.bytes(),
        d: d.dst(0)?,
        a,
        b,
        p: d.psrc(3)?,
    })
}

fn setp(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = o.ty()?;
    if ty.pair() || ty == Ty::Pred || ty.bytes() == 1 {
        return Err(format!("unsupported type {ty:?}"));
    }
    check_double(o, ty)?;
    let found = o.find(|m| comparison(m, ty));
    let (comparison, unordered, ty) = found.ok_or("no comparison")?;
    let combine = o.find(|m| {
        Some(match m {
            "and" => Boolean::And,
            "or" => Boolean::Or,
            "xor" => Boolean::Xor,
            _ => return None,
        })
    });
    let with = match combine {
        Some(op) => Some((op, d.psrc(3)?)),
        None => None,
    };
    let [a, b] = pair(d, ty)?;
    let (p, q) = d.pdst_pair(0)?;
    Ok(Op::Setp(Box::new(Setp {
        comparison,
        unordered,
        ftz: o.has("ftz"),
        ty,
        p,
        q,
        a,
        b,
        with,
    })))
}

/// The comparison, what it gives for a NaN, and the type that it compares.
fn comparison(name: &str, ty: Ty) -> Option<(Comparison, bool, Ty)> {
    use Comparison::*;
    let unsigned = match ty.bytes() {
        2 => Ty::U16,
        4 => Ty::U32,
        _ => Ty::U64,
    };
    Some(match name {
        "eq" => (Eq, false, ty),
        "ne" => (Ne, false, ty),
        "lt" => (Lt, false, ty),
        "le" => (Le, false, ty),
        "gt" => (Gt, false, ty),
        "ge" => (Ge, false, ty),
        "lo" => (Lt, false, unsigned),
        "ls" => (Le, false, unsigned),
        "hi" => (Gt, false, unsigned),
        "hs" => (Ge, false, unsigned),
        "equ" => (Eq, true, ty),
        "neu" => (Ne, true, ty),
        "ltu" => (Lt, true, ty),
        "leu" => (Le, true, ty),
        "gtu" => (Gt, true, ty),
        "geu" => (Ge, true, ty),
        "num" => (Num, false, ty),
        "nan" => (Nan, false, ty),
        _ => return None,
    })
}
