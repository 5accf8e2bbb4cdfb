//! Tensor cores, mbarriers and asynchronous copies.
use super::*;

/// st.async, red.async: `[a], b, [mbar]`
pub fn st_async(d: &mut D, a: &[Operand], m: &[&str], ty: Ty) -> R<Op> {
    if a.len() < 3 || space(m) != Sp::Cluster || !m.contains(&"mbarrier::complete_tx::bytes") {
        return Err("only the shared::cluster form with an mbarrier is supported".into());
    }
    let (addr, mbar) = (d.addr(&a[0])?, d.addr(&a[2])?);
    Ok(Op::StAsync(Box::new(StAsyncSpec {
        ty,
        addr,
        mbar,
        src: d.srcs(&a[1], ty)?,
        red: redop(m),
    })))
}

pub fn decode(d: &mut D, parts: &[&str], a: &[Operand]) -> R<Op> {
    let m = &parts[1..];
    let has = |x: &str| m.contains(&x);
    let tys: Vec<Ty> = m.iter().filter_map(|x| Ty::parse(x)).collect();
    let ty = tys.last().copied().unwrap_or(Ty::B32);
    let need = |n: usize| {
        if a.len() < n {
            Err(format!("expected {n} operands, found {}", a.len()))
        } else {
            Ok(())
        }
    };
    Ok(match parts[0] {
        "mma" => {
            need(4)?;
            let shape = *m
                .iter()
                .find(|x| x.starts_with("m16n8k"))
                .ok_or("unsupported mma shape")?;
            let kk: usize = shape[6..].parse().map_err(|_| "bad mma shape")?;
            let aty = *tys.get(1).ok_or("bad mma types")?;
            if !matches!((aty, kk), (Ty::F16 | Ty::BF16, 8 | 16) | (Ty::TF32, 4 | 8)) || has("sp") {
                return Err("unsupported mma type or shape".into());
            }
            let c = d.srcs(&a[3], Ty::B32)?;
            let (x, y) = (d.srcs(&a[1], Ty::B32)?, d.srcs(&a[2], Ty::B32)?);
            let z = d.dsts(&a[0])?;
            Op::Mma(Box::new(MmaSpec {
                n: 8,
                k: kk,
                ty: aty,
                d: z,
                a: x,
                b: y,
                c,
                d16: tys[0] == Ty::F16,
                c16: tys[3] == Ty::F16,
            }))
        }
        "wgmma" => match m.first().copied() {
            Some("fence") => Op::WgFence,
            Some("commit_group") => Op::WgCommit,
            Some("wait_group") => match a.first() {
                Some(Operand::Int(n)) => Op::WgWait(*n as u32),
                _ => return Err("wait_group needs an immediate".into()),
            },
            Some("mma_async") => {
                need(6)?;
                let shape = m
                    .iter()
                    .find(|x| x.starts_with("m64n"))
                    .ok_or("unsupported wgmma shape")?;
                let (n, kk) = shape[4..].split_once('k').ok_or("bad shape")?;
                let n: usize = n.parse().map_err(|_| "bad shape")?;
                let kk: usize = kk.parse().map_err(|_| "bad shape")?;
                let aty = *tys.get(1).ok_or("bad types")?;
                if !matches!((aty, kk), (Ty::F16 | Ty::BF16, 16) | (Ty::TF32, 8)) || has("sp") {
                    return Err("only dense f16/bf16/tf32 wgmma is supported".into());
                }
                if !n.is_multiple_of(8) || n == 0 || n > 256 {
                    return Err("bad wgmma N".into());
                }
                let d16 = tys[0] == Ty::F16;
                let z = d.dsts(&a[0])?;
                if z.len() != if d16 { n / 4 } else { n / 2 } {
                    return Err(format!("wrong number of accumulators: {}", z.len()));
                }
                d.u.extend(z.clone());
                let wa = match &a[1] {
                    Operand::Vec(_) => {
                        let v = d.srcs(&a[1], Ty::B32)?;
                        WgA::Regs(v.try_into().map_err(|_| "A needs 4 registers")?)
                    }
                    o => WgA::Desc(d.src(o, Ty::B64)?),
                };
                let b = d.src(&a[2], Ty::B64)?;
                let scale_d = match &a[3] {
                    Operand::Int(v) => WgScale::Imm(*v != 0),
                    o => WgScale::Pred(d.psrc(o)?),
                };
                let imm = |i: usize| match a.get(i) {
                    Some(Operand::Int(v)) => Ok(*v),
                    None => Ok(0),
                    _ => Err("expected an immediate".to_string()),
                };
                let (sa, sb) = (imm(4)?, imm(5)?);
                let (ta, tb) = if matches!(wa, WgA::Regs(_)) {
                    (0, imm(6)?)
                } else {
                    (imm(6)?, imm(7)?)
                };
                Op::WgMma(Box::new(WgSpec {
                    n,
                    k: kk,
                    ty: aty,
                    d: z,
                    a: wa,
                    b,
                    scale_d,
                    neg_a: sa == -1,
                    neg_b: sb == -1,
                    trans_a: ta == 1,
                    trans_b: tb == 1,
                    d16,
                }))
            }
            _ => return Err("unknown wgmma instruction".into()),
        },
        "mbarrier" => {
            let mi = a
                .iter()
                .position(|x| matches!(x, Operand::Mem(..)))
                .ok_or("no address")?;
            let addr = d.addr(&a[mi])?;
            let sp = space(m);
            match m[0] {
                "init" => {
                    need(2)?;
                    Op::MbarInit(addr, d.src(&a[1], Ty::B32)?)
                }
                "inval" => Op::MbarInval(addr),
                "expect_tx" => Op::MbarExpect(sp, addr, d.src(&a[mi + 1], Ty::B32)?),
                "complete_tx" => Op::MbarComplete(sp, addr, d.src(&a[mi + 1], Ty::B32)?),
                "arrive" | "arrive_drop" => {
                    let one = d.konst(1);
                    if sp == Sp::Cluster && matches!(a[0], Operand::Reg(_)) {
                        return Err("an arrive on shared::cluster returns no state".into());
                    }
                    let st = if mi > 0 { d.dst(&a[0])? } else { d.sink };
                    let (count, expect) = if has("expect_tx") {
                        (one, d.src(&a[mi + 1], Ty::B32)?)
                    } else if a.len() > mi + 1 {
                        (d.src(&a[mi + 1], Ty::B32)?, NO)
                    } else {
                        (one, NO)
                    };
                    Op::MbarArrive {
                        sp,
                        addr,
                        count,
                        expect,
                        drop: m[0] == "arrive_drop",
                        d: st,
                    }
                }
                "test_wait" | "try_wait" => {
                    need(mi + 2)?;
                    let p = d.pdst(&a[0])?;
                    let v = d.src(&a[mi + 1], Ty::B64)?;
                    Op::MbarWait {
                        addr,
                        v,
                        state: !has("parity"),
                        try_: m[0] == "try_wait",
                        p,
                    }
                }
                x => return Err(format!("unsupported mbarrier.{x}")),
            }
        }
        "cp" if has("bulk") => {
            if has("commit_group") {
                return Ok(Op::BulkCommit);
            }
            if has("wait_group") {
                let Some(Operand::Int(n)) = a.first() else {
                    return Err("wait_group needs an immediate".into());
                };
                return Ok(Op::BulkWait(*n as u32, has("read")));
            }
            if has("prefetch") {
                return Ok(Op::Nop);
            }
            let red = if has("reduce") {
                Some(redop(m).ok_or("unknown reduction")?)
            } else {
                None
            };
            let mem: Vec<usize> = (0..a.len())
                .filter(|i| matches!(a[*i], Operand::Mem(..)))
                .collect();
            // the first space is that of the destination
            let sp = space(m);
            let to_shared =
                matches!(sp, Sp::Shared | Sp::Cluster) && (has("global") || has("shared::cluster"));
            if has("tensor") {
                let dims = (1..=5)
                    .find(|n| has(&format!("{n}d")))
                    .ok_or("unknown tensor rank")?;
                if m.iter()
                    .any(|x| x.starts_with("im2col") || x.starts_with("tile::"))
                {
                    return Err("only tile mode is supported".into());
                }
                let (si, gi) = if to_shared { (0, 1) } else { (1, 0) };
                let smem = d.addr(&a[mem[si]])?;
                let g = &a[mem[gi]];
                let map = d.addr(g)?;
                let Operand::Mem(_, _, Some(c)) = g else {
                    return Err("no coordinates".into());
                };
                let c = c.clone();
                let coords: Vec<S> = c.iter().map(|x| d.src(x, Ty::B32)).collect::<R<_>>()?;
                if coords.len() != dims {
                    return Err("wrong number of coordinates".into());
                }
                let mbar = if to_shared {
                    Some(d.addr(&a[*mem.get(2).ok_or("no mbarrier")?])?)
                } else {
                    None
                };
                let mcast = if has("multicast::cluster") {
                    Some(d.src(&a[mem[2] + 1], Ty::B16)?)
                } else {
                    None
                };
                let t = Box::new(TensorSpec {
                    sp,
                    dims,
                    coords,
                    smem,
                    map,
                    mbar,
                    mcast,
                    red,
                });
                return Ok(if to_shared {
                    Op::Tload(t)
                } else {
                    Op::Tstore(t)
                });
            }
            let (dst, src) = (d.addr(&a[mem[0]])?, d.addr(&a[mem[1]])?);
            let size = d.src(&a[2], Ty::B32)?;
            let mbar = if to_shared {
                Some(d.addr(&a[*mem.get(2).ok_or("no mbarrier")?])?)
            } else {
                None
            };
            let mcast = if has("multicast::cluster") {
                Some(d.src(&a[mem[2] + 1], Ty::B16)?)
            } else {
                None
            };
            let b = Box::new(BulkSpec {
                sp,
                dst,
                src,
                size,
                mbar,
                mcast,
                red: red.map(|x| (x, ty)),
            });
            match (to_shared, has("global")) {
                (false, _) => Op::BulkStore(b),
                (true, true) => Op::BulkLoad(b),
                (true, false) => Op::BulkShared(b),
            }
        }
        "cp" => {
            if has("commit_group") {
                return Ok(Op::CpCommit);
            }
            if has("wait_group") {
                let Some(Operand::Int(n)) = a.first() else {
                    return Err("wait_group needs an immediate".into());
                };
                return Ok(Op::CpWait(*n as u32));
            }
            if has("wait_all") {
                return Ok(Op::CpWait(0));
            }
            if has("mbarrier") {
                return Ok(Op::CpMbarArrive {
                    addr: d.addr(&a[0])?,
                    noinc: has("noinc"),
                });
            }
            need(3)?;
            let (dst, src) = (d.addr(&a[0])?, d.addr(&a[1])?);
            let Operand::Int(size) = a[2] else {
                return Err("cp.async size must be an immediate".into());
            };
            let (mut srcsz, mut ignore) = (NO, None);
            match a.get(3) {
                Some(Operand::Reg(VReg {
                    class: RegClass::Pred,
                    ..
                }))
                | Some(Operand::NotReg(_)) => ignore = Some(d.psrc(&a[3])?),
                Some(o) if !d.is64(o) => srcsz = d.src(o, Ty::B32)?,
                _ => {}
            }
            Op::CpAsync {
                dst,
                src,
                size: size as u8,
                srcsz,
                ignore,
            }
        }
        _ => unreachable!(),
    })
}
