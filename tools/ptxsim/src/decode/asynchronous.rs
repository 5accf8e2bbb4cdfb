//! mbarriers and asynchronous copies.

use super::Decoded;
use super::opcode::Opcode;
use super::operands::Decoder;
use crate::ir::*;
use crate::ptx::Operand;
use crate::ty::Ty;

pub fn mbarrier(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    if o.name != "mbarrier" {
        return Ok(None);
    }
    o.ty()?;
    let kind = o.first();
    let space = o.space();
    // The address is the first operand, or follows a result.
    let at = if d.is_memory(0) { 0 } else { 1 };
    let addr = d.addr(at)?;
    let op = match kind {
        "init" => MbarrierOp::Init {
            count: d.src(at + 1, Ty::B32)?,
        },
        "inval" => MbarrierOp::Inval,
        "expect_tx" => MbarrierOp::Expect {
            space,
            bytes: d.src(at + 1, Ty::B32)?,
        },
        "arrive" => arrive(d, o, space, at)?,
        "test_wait" | "try_wait" => MbarrierOp::Wait {
            p: d.pdst(0)?,
            v: d.src(at + 1, Ty::B64)?,
            state: !o.has("parity"),
            try_: kind == "try_wait",
        },
        _ => return Ok(None),
    };
    Ok(Some(Op::Mbarrier(addr, op)))
}

fn arrive(d: &mut Decoder, o: &Opcode, space: Space, at: usize) -> Decoded<MbarrierOp> {
    let result = at == 1 && !matches!(d.arg(0)?, Operand::Sink);
    if space == Space::Cluster && result {
        return Err("an arrive on shared::cluster returns no state".into());
    }
    let z = if at == 1 { d.dst(0)? } else { d.sink() };
    let operand = if d.count() > at + 1 {
        Some(d.src(at + 1, Ty::B32)?)
    } else {
        None
    };
    let one = d.constant(1);
    let (count, expect) = match o.has("expect_tx") {
        true => (one, Some(operand.ok_or("no number of bytes")?)),
        false => (operand.unwrap_or(one), None),
    };
    Ok(MbarrierOp::Arrive {
        space,
        count,
        expect,
        d: z,
    })
}

pub fn copy(d: &mut Decoder, o: &Opcode) -> Decoded<Option<Op>> {
    if o.name != "cp" {
        return Ok(None);
    }
    o.has("async");
    let bulk = o.has("bulk");
    Ok(Some(if o.has("commit_group") {
        if bulk { Op::BulkCommit } else { Op::CpCommit }
    } else if o.has("wait_group") {
        let pending = d.immediate(0)? as usize;
        match bulk {
            true => Op::BulkWait {
                pending,
                read: o.has("read"),
            },
            false => Op::CpWait(pending),
        }
    } else if o.has("wait_all") {
        Op::CpWait(0)
    } else if bulk && o.has("prefetch") {
        o.all(|_| Some(()));
        Op::Nop
    } else if bulk {
        bulk_copy(d, o)?
    } else if o.has("mbarrier") {
        o.ty()?;
        o.has("arrive");
        o.space();
        Op::CpArrive {
            mbarrier: d.addr(0)?,
            noinc: o.has("noinc"),
        }
    } else {
        cp_async(d, o)?
    }))
}

fn cp_async(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    o.spaces();
    let (shared, global) = (d.addr(0)?, d.addr(1)?);
    let bytes = d.immediate(2)? as usize;
    if !matches!(bytes, 4 | 8 | 16) {
        return Err(format!("{bytes} bytes"));
    }
    let (mut source_bytes, mut ignore) = (None, None);
    if d.count() > 3 {
        let last = d.arg(3)?;
        if Decoder::is_predicate(last) {
            ignore = Some(d.psrc(3)?);
        } else if !Decoder::is_wide(last) {
            source_bytes = Some(d.src(3, Ty::B32)?);
        }
    }
    Ok(Op::CpAsync(Box::new(CpAsync {
        shared,
        global,
        bytes,
        source_bytes,
        ignore,
    })))
}

fn bulk_copy(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let reduction = match o.has("reduce") {
        true => Some(o.reduction().ok_or("no reduction")?),
        false => None,
    };
    let types = o.types();
    // The first space is that of the destination.
    let (load, space) = match o.spaces()[..] {
        [space @ (Space::Shared | Space::Cluster), Space::Global] => (true, space),
        [Space::Global, Space::Shared] => (false, Space::Shared),
        _ => return Err("unsupported spaces".into()),
    };
    let (shared, global) = if load { (0, 1) } else { (1, 0) };
    let (global, next) = match o.has("tensor") {
        true => (tensor(d, o, global)?, 2),
        false => {
            let (address, bytes) = (d.addr(global)?, d.src(2, Ty::B32)?);
            (Bulk::Linear { address, bytes }, 3)
        }
    };
    let shared = d.addr(shared)?;
    if load {
        return bulk_load(d, o, (space, shared), global, next);
    }
    o.has("bulk_group");
    let ty = types.last().copied().unwrap_or(Ty::B32);
    Ok(Op::BulkStore(Box::new(BulkStore {
        shared,
        global,
        reduction: reduction.map(|r| (r, ty)),
    })))
}

/// `next`: the operand after the addresses and the size.
fn bulk_load(
    d: &mut Decoder,
    o: &Opcode,
    (space, shared): (Space, Addr),
    global: Bulk,
    next: usize,
) -> Decoded<Op> {
    if !o.has("mbarrier::complete_tx::bytes") {
        return Err("a load completes on an mbarrier".into());
    }
    let multicast = match o.has("multicast::cluster") {
        true => Some(d.src(next + 1, Ty::B16)?),
        false => None,
    };
    Ok(Op::BulkLoad(Box::new(BulkLoad {
        space,
        shared,
        global,
        mbarrier: d.addr(next)?,
        multicast,
    })))
}

fn tensor(d: &mut Decoder, o: &Opcode, i: usize) -> Decoded<Bulk> {
    o.has("tile");
    let rank = o.find(|m| m.strip_suffix('d')?.parse::<usize>().ok());
    let (map, coords) = (d.addr(i)?, d.coordinates(i)?);
    if rank != Some(coords.len()) {
        return Err(format!("{} coordinates", coords.len()));
    }
    Ok(Bulk::Tensor { map, coords })
}
