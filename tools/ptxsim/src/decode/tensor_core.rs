//! Tensor cores and the loads and stores of their fragments.

use super::Decoded;
use super::matrices::{numbers, registers};
use super::opcode::Opcode;
use super::operands::Decoder;
use super::wmma;
use crate::ir::*;
use crate::ptx::Operand;
use crate::ty::Ty;

pub fn decode(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    Ok(Some(match o.name {
        "ldmatrix" => {
            let trans = matrices(o)?;
            let addr = d.addr(1)?;
            let z = d.dsts(0)?.into();
            Op::Ldmatrix { trans, d: z, addr }
        }
        "stmatrix" => {
            let trans = matrices(o)?;
            let (addr, s) = (d.addr(0)?, d.srcs(1, Ty::B32)?.into());
            Op::Stmatrix { trans, s, addr }
        }
        "mma" => mma(d, o)?,
        "wmma" => wmma::decode(d, o)?,
        "wgmma" => match o.first() {
            "fence" => Op::WgmmaFence,
            "commit_group" => Op::WgmmaCommit,
            "wait_group" => Op::WgmmaWait(d.immediate(0)? as usize),
            "mma_async" => wgmma(d, o)?,
            _ => return Ok(None),
        },
        "setmaxnreg" => setmaxnreg(d, o)?,
        _ => return Ok(None),
    }))
}

/// Whether they are transposed.
fn matrices(o: &Opcode) -> Decoded<bool> {
    o.all(|m| matches!(m, "x1" | "x2" | "x4").then_some(()));
    o.space();
    if !o.has("m8n8") || o.ty()? != Ty::B16 {
        return Err("unsupported matrices".into());
    }
    Ok(o.has("trans"))
}

/// N and K of `m64n128k16`, after the M.
fn shape(o: &Opcode, m: &str) -> Decoded<(usize, usize)> {
    let shape = o.find(|modifier| {
        let (n, k) = modifier.strip_prefix(m)?.split_once('k')?;
        Some((n.parse().ok()?, k.parse().ok()?))
    });
    shape.ok_or_else(|| "unsupported shape".into())
}

fn mma(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (n, k) = shape(o, "m16n")?;
    let [td, ta, tb, tc] = numbers(o)[..] else {
        return Err("unsupported types".into());
    };
    let shape = match ta {
        Number::F16 | Number::BF16 => matches!(k, 8 | 16),
        Number::TF32 => matches!(k, 4 | 8),
        Number::F32 => false,
    };
    let accumulator = |number| number == Number::F32 || number == ta && ta == Number::F16;
    if n != 8 || !shape || ta != tb || !accumulator(td) || !accumulator(tc) {
        return Err("unsupported shape or types".into());
    }
    if !o.has("row") || !o.has("col") {
        return Err("unsupported layout".into());
    }
    let words = |elements: usize, number: Number| elements / 32 / number.per_register();
    Ok(Op::Mma(Box::new(Mma {
        k,
        number: ta,
        a: registers(d.srcs(1, Ty::B32)?, words(16 * k, ta))?,
        b: registers(d.srcs(2, Ty::B32)?, words(k * 8, tb))?,
        c: registers(d.srcs(3, Ty::B32)?, words(16 * 8, tc))?,
        d: registers(d.dsts(0)?, words(16 * 8, td))?,
        half_d: td == Number::F16,
        half_c: tc == Number::F16,
    })))
}

const SIGNS: [i64; 2] = [1, -1];

fn wgmma(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (n, k) = shape(o, "m64n")?;
    let [td, ta, tb] = o.types()[..] else {
        return Err("unsupported types".into());
    };
    let types = match ta {
        Ty::F16 => tb == ta && matches!(td, Ty::F16 | Ty::F32),
        Ty::BF16 => tb == ta && td == Ty::F32,
        _ => false,
    };
    if !types || k != 16 || !n.is_multiple_of(8) || !(8..=256).contains(&n) {
        return Err("unsupported shape or types".into());
    }
    let half_d = td == Ty::F16;
    let accumulators = d.in_out(0)?;
    if accumulators.len() != if half_d { n / 4 } else { n / 2 } {
        return Err(format!("{} accumulators for N = {n}", accumulators.len()));
    }
    let a = wgmma_a(d)?;
    let scale_d = match d.arg(3)? {
        Operand::Integer(v) => ScaleD::Immediate(*v != 0),
        _ => ScaleD::Predicate(d.psrc(3)?),
    };
    // Only an operand in shared memory can be transposed.
    let in_shared = matches!(a, WgmmaA::Descriptor(_));
    let transpose_b = if in_shared { 7 } else { 6 };
    Ok(Op::Wgmma(Box::new(Wgmma {
        n,
        ty: ta,
        d: accumulators,
        b: d.src(2, Ty::B64)?,
        scale_d,
        negate_a: either(d, 4, SIGNS)?,
        negate_b: either(d, 5, SIGNS)?,
        transpose_a: in_shared && either(d, 6, [0, 1])?,
        transpose_b: either(d, transpose_b, [0, 1])?,
        half_d,
        a,
    })))
}

/// A constant that is one of two.
fn either(d: &Decoder, i: usize, [no, yes]: [i64; 2]) -> Decoded<bool> {
    match d.immediate(i)? {
        v if v == no => Ok(false),
        v if v == yes => Ok(true),
        v => Err(format!("operand {i} is {no} or {yes}, not {v}")),
    }
}

fn wgmma_a(d: &mut Decoder) -> Decoded<WgmmaA> {
    if !matches!(d.arg(1)?, Operand::Vector(_)) {
        return Ok(WgmmaA::Descriptor(d.src(1, Ty::B64)?));
    }
    let registers = d.srcs(1, Ty::B32)?.try_into();
    let registers = registers.map_err(|_| "A is four registers")?;
    Ok(WgmmaA::Registers(registers))
}

fn setmaxnreg(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    o.ty()?;
    let direction = o.has("inc") || o.has("dec");
    let n = d.immediate(0)?;
    if !direction || !(24..=256).contains(&n) || n % 8 != 0 {
        return Err("the count is a multiple of 8 from 24 to 256".into());
    }
    Ok(Op::SetMaxNReg(n as u32))
}
