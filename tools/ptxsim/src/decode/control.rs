//! Branches, barriers, and what lanes of a warp do together.

use super::Decoded;
use super::opcode::Opcode;
use super::operands::Decoder;
use crate::ir::*;
use crate::ptx::Operand;
use crate::ty::Ty;

pub fn decode(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    Ok(Some(match o.name {
        "bra" => match d.arg(0)? {
            Operand::Label(at) => Op::Bra(*at as u32),
            _ => return Err("no label".into()),
        },
        "ret" | "exit" => Op::Exit,
        "trap" => Op::Trap,
        "nanosleep" => {
            o.ty()?;
            Op::Yield
        }
        "bar" | "barrier" => barrier(d, o)?,
        "shfl" => shuffle(d, o)?,
        "vote" => vote(d, o)?,
        "redux" => redux(d, o)?,
        "elect" => {
            let members = d.src(1, Ty::B32)?;
            let (z, p) = d.dst_pair(0)?;
            let op = Exchange::Elect { d: z, p };
            Op::Exchange { members, op }
        }
        "activemask" => {
            o.ty()?;
            Op::ActiveMask(d.dst(0)?)
        }
        "fence" => fence(o),
        "membar" | "prefetch" | "prefetchu" | "griddepcontrol" => {
            o.all(|_| Some(()));
            Op::Nop
        }
        "createpolicy" => {
            o.all(|_| Some(()));
            let zero = d.constant(0);
            Op::Mov64(d.dst(0)?, zero)
        }
        _ => return Ok(None),
    }))
}

/// Ordinary fences order what is ordered here anyway.
fn fence(o: &Opcode) -> Op {
    let asynchronous = o.all(|m| m.starts_with("async").then_some(()));
    let initialised = o.has("mbarrier_init");
    o.all(|_| Some(()));
    if !asynchronous.is_empty() {
        Op::FenceProxy
    } else if initialised {
        Op::FenceInit
    } else {
        Op::Nop
    }
}

fn barrier(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (arrive, wait) = (o.has("arrive"), o.has("wait"));
    if o.has("warp") {
        let members = d.src(0, Ty::B32)?;
        let op = Exchange::Sync;
        return Ok(Op::Exchange { members, op });
    }
    if o.has("cluster") {
        return Ok(match wait {
            true => Op::ClusterWait,
            false => Op::ClusterArrive {
                release: !o.has("relaxed"),
            },
        });
    }
    if arrive && d.count() < 2 {
        return Err("arrive needs a number of threads".into());
    }
    Ok(Op::Bar {
        id: d.src(0, Ty::B32)?,
        count: if d.count() > 1 {
            Some(d.src(1, Ty::B32)?)
        } else {
            None
        },
        wait: !arrive,
        aligned: o.name == "bar" || o.has("aligned"),
    })
}

fn shuffle(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let mode = o.find(|m| {
        Some(match m {
            "idx" => Shuffle::Idx,
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Bfly,
            _ => return None,
        })
    });
    let mode = mode.ok_or("no mode")?;
    let ty = o.ty()?;
    let (a, b, c) = (d.src(1, ty)?, d.src(2, ty)?, d.src(3, ty)?);
    let members = d.src(4, ty)?;
    let (z, p) = d.dst_pair(0)?;
    let op = Exchange::Shuffle {
        mode,
        d: z,
        p,
        a,
        b,
        c,
    };
    Ok(Op::Exchange { members, op })
}

fn vote(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    o.ty()?;
    // `.uni` is harmless elsewhere.
    let kind = o.find(|m| {
        Some(match m {
            "all" => Vote::All,
            "any" => Vote::Any,
            "uni" => Vote::Uni,
            "ballot" => Vote::Ballot,
            _ => return None,
        })
    });
    let kind = kind.ok_or("no mode")?;
    let (z, p) = match kind {
        Vote::Ballot => (d.dst(0)?, d.sink_predicate()),
        _ => (d.sink(), d.pdst(0)?),
    };
    let (a, members) = (d.psrc(1)?, d.src(2, Ty::B32)?);
    let op = Exchange::Vote { kind, d: z, p, a };
    Ok(Op::Exchange { members, op })
}

fn redux(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let ty = o.ty()?;
    if ty.float() {
        return Err(format!("unsupported type {ty:?}"));
    }
    let op = o.reduction().ok_or("no operation")?;
    let (a, members) = (d.src(1, ty)?, d.src(2, Ty::B32)?);
    let z = d.dst(0)?;
    let op = Exchange::Redux { op, ty, d: z, a };
    Ok(Op::Exchange { members, op })
}
