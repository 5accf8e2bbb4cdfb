//! Instructions other than tensor cores, mbarriers and asynchronous copies; checks of opcodes and modifiers.
use super::*;

/// Opcodes checked for unknown modifiers (others fail as unknown instructions).
const KNOWN_OPS: &str = "mov add sub addc subc mul mul24 div rem min max and or xor shl shr copysign not neg abs cnot popc clz brev bfind ex2 lg2 rcp rsqrt \
    sqrt sin cos tanh mad fma bfe shf prmt sad dp4a lop3 bfi setp set selp slct cvt cvta isspacep mapa getctarank ld ldu st atom red bra brx ret exit bar barrier \
    shfl vote match redux elect activemask ldmatrix stmatrix mma wgmma mbarrier cp setmaxnreg nanosleep";

/// Modifiers that are implemented or do not change the result. Anything else is an error rather than ignored.
fn known_modifier(m: &str) -> bool {
    const KNOWN: &str = " rn rz rm rp rna rni rzi rmi rpi ftz sat relu satfinite approx full lo hi wide cc uni sync aligned to global shared \
        shared::cta shared::cluster local param param::entry param::func const v2 v4 v8 weak volatile relaxed acquire release acq_rel cta cluster gpu \
        sys mmio nc eq ne lt le gt ge ls hs equ neu ltu leu gtu geu num nan NaN and or xor not add min max inc dec exch cas noftz idx up down bfly \
        all any ballot wrap clamp l r f4e b4e rc8 ecl ecr rc16 x1 x2 x4 m8n8 trans row col mma_async fence commit_group wait_group wait_all read bulk \
        tensor 1d 2d 3d 4d 5d tile mbarrier::complete_tx::bytes bulk_group multicast::cluster async mbarrier arrive noinc init inval expect_tx complete_tx \
        arrive_drop test_wait try_wait parity warp red popc wait reduce prefetch shiftamt ca cg cs lu cv wb wt noComplete unified sc scope ";
    Ty::parse(m).is_some()
        || m.starts_with("L1::")
        || m.starts_with("L2::")
        || m.starts_with("level::")
        || ["m16n8k", "m64n"].iter().any(|p| m.starts_with(p))
        || KNOWN.split_whitespace().any(|k| k == m)
}

pub fn decode(d: &mut D, r: &RawInst) -> R<Op> {
    let parts: Vec<&str> = r.op.split('.').collect();
    let m = &parts[1..];
    if !matches!(
        parts[0],
        "fence"
            | "membar"
            | "prefetch"
            | "prefetchu"
            | "griddepcontrol"
            | "applypriority"
            | "discard"
            | "createpolicy"
            | "pmevent"
    ) && let Some(x) = m.iter().find(|x| !known_modifier(x))
        && KNOWN_OPS.split_whitespace().any(|k| k == parts[0])
    {
        return Err(format!("unknown modifier .{x}"));
    }
    let has = |x: &str| m.contains(&x);
    let tys: Vec<Ty> = m.iter().filter_map(|x| Ty::parse(x)).collect();
    let ty = tys.last().copied().unwrap_or(Ty::B32);
    let a = &r.args;
    let need = |n: usize| {
        if a.len() < n {
            Err(format!("expected {n} operands, found {}", a.len()))
        } else {
            Ok(())
        }
    };
    let fl = Fl {
        ftz: has("ftz"),
        sat: has("sat"),
        rnd: rnd(m).unwrap_or(Rnd::Rn),
    };
    let w64 = ty.bytes() == 8;
    macro_rules! bin {
        ($op:expr) => {{
            need(3)?;
            let (x, y) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?);
            let z = d.dst(&a[0])?;
            match ty {
                Ty::F32 => Op::F32($op, fl, z, x, y),
                Ty::F64 => Op::F64($op, z, x, y),
                Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2 => Op::H2($op, ty, z, x, y),
                Ty::S16 | Ty::U16 | Ty::B16 => Op::B16($op, ty.signed(), z, x, y),
                _ if w64 => Op::B64($op, z, x, y),
                _ => Op::B32($op, z, x, y),
            }
        }};
    }
    let sgn = |s: B2, u: B2| if ty.signed() { s } else { u };
    Ok(match parts[0] {
        "mov" => {
            need(2)?;
            if ty == Ty::Pred {
                let p = d.pdst(&a[0])?;
                return Ok(match &a[1] {
                    Operand::Int(v) => Op::PImm(p, *v != 0),
                    o => Op::PMov(p, d.psrc(o)?),
                });
            }
            match (&a[0], &a[1]) {
                (Operand::Vec(v), s) => {
                    let s = d.src(s, ty)?;
                    let o: Vec<S> = v.iter().map(|x| d.dst(x)).collect::<R<_>>()?;
                    match (ty.bytes(), o.len()) {
                        (8, 2) => Op::Unpack64(o[0], o[1], s),
                        (4, 2) => Op::Unpack16(o[0], o[1], s),
                        (8, 4) => Op::Unpack64x4(Box::new([o[0], o[1], o[2], o[3]]), s),
                        _ => return Err("unsupported unpacking mov".into()),
                    }
                }
                (z, Operand::Vec(v)) => {
                    let o: Vec<S> = v.iter().map(|x| d.src(x, ty)).collect::<R<_>>()?;
                    let z = d.dst(z)?;
                    match (ty.bytes(), o.len()) {
                        (8, 2) => Op::Pack64(z, o[0], o[1]),
                        (4, 2) => Op::Pack16(z, o[0], o[1]),
                        (8, 4) => Op::Pack64x4(z, Box::new([o[0], o[1], o[2], o[3]])),
                        _ => return Err("unsupported packing mov".into()),
                    }
                }
                (z, Operand::Special(n))
                    if n.starts_with("%clock") || n.starts_with("%globaltimer") =>
                {
                    Op::Timer(d.dst(z)?, w64)
                }
                (z, s) => {
                    let s = d.src(s, ty)?;
                    let z = d.dst(z)?;
                    if w64 {
                        Op::Mov64(z, s)
                    } else {
                        Op::Mov32(z, s)
                    }
                }
            }
        }
        "add" | "sub" => {
            let add = parts[0] == "add";
            if has("cc") {
                let (x, y, z) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?, d.dst(&a[0])?);
                return Ok(Op::AddC {
                    sub: !add,
                    cin: false,
                    cout: true,
                    w64,
                    d: z,
                    a: x,
                    b: y,
                });
            }
            if has("sat") && !ty.float() {
                bin!(if add { B2::AddSat } else { B2::SubSat })
            } else if ty.float() {
                bin!(if add { B2::FAdd } else { B2::FSub })
            } else {
                bin!(if add { B2::Add } else { B2::Sub })
            }
        }
        "addc" | "subc" => {
            let (x, y, z) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?, d.dst(&a[0])?);
            Op::AddC {
                sub: parts[0] == "subc",
                cin: true,
                cout: has("cc"),
                w64,
                d: z,
                a: x,
                b: y,
            }
        }
        "mul" => {
            if ty.float() {
                bin!(B2::FMul)
            } else if has("wide") {
                need(3)?;
                let (x, y, z) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?, d.dst(&a[0])?);
                Op::MulWide(ty.signed(), ty.bytes() == 2, z, x, y)
            } else if has("hi") {
                bin!(sgn(B2::MulHiS, B2::MulHiU))
            } else {
                bin!(B2::Mul)
            }
        }
        "mul24" => bin!(B2::Mul24),
        "div" => {
            if ty.float() {
                bin!(B2::FDiv)
            } else {
                bin!(sgn(B2::DivS, B2::DivU))
            }
        }
        "rem" => bin!(sgn(B2::RemS, B2::RemU)),
        "min" | "max" => {
            let min = parts[0] == "min";
            if ty == Ty::F32 && a.len() == 4 {
                let (x, y, w, z) = (
                    d.src(&a[1], ty)?,
                    d.src(&a[2], ty)?,
                    d.src(&a[3], ty)?,
                    d.dst(&a[0])?,
                );
                return Ok(Op::TF32(
                    if min { T3::FMin3 } else { T3::FMax3 },
                    fl,
                    z,
                    x,
                    y,
                    w,
                ));
            }
            if ty.float() {
                let nan = has("NaN");
                if min {
                    bin!(if nan { B2::FMinNan } else { B2::FMin })
                } else {
                    bin!(if nan { B2::FMaxNan } else { B2::FMax })
                }
            } else if min {
                bin!(sgn(B2::MinS, B2::MinU))
            } else {
                bin!(sgn(B2::MaxS, B2::MaxU))
            }
        }
        "and" | "or" | "xor" if ty == Ty::Pred => {
            need(3)?;
            let o = match parts[0] {
                "and" => PBool::And,
                "or" => PBool::Or,
                _ => PBool::Xor,
            };
            Op::PBin(o, d.pdst(&a[0])?, d.psrc(&a[1])?, d.psrc(&a[2])?)
        }
        "and" => bin!(B2::And),
        "or" => bin!(B2::Or),
        "xor" => bin!(B2::Xor),
        "shl" => bin!(B2::Shl),
        "shr" => bin!(sgn(B2::ShrS, B2::ShrU)),
        "copysign" => bin!(B2::Copysign),
        "not" if ty == Ty::Pred => {
            let s = d.psrc(&a[1])?;
            Op::PMov(
                d.pdst(&a[0])?,
                PSrc {
                    p: s.p,
                    neg: !s.neg,
                },
            )
        }
        "neg" | "abs" | "not" | "cnot" | "popc" | "clz" | "brev" | "bfind" | "ex2" | "lg2"
        | "rcp" | "rsqrt" | "sqrt" | "sin" | "cos" | "tanh" => {
            need(2)?;
            let f = ty.float();
            let u = match parts[0] {
                "neg" if f => U1::FNeg,
                "neg" => U1::Neg,
                "abs" if f => U1::FAbs,
                "abs" => U1::AbsS,
                "not" => U1::Not,
                "cnot" => U1::Cnot,
                "popc" => U1::Popc,
                "clz" => U1::Clz,
                "brev" => U1::Brev,
                "bfind" if has("shiftamt") => {
                    if ty.signed() {
                        U1::BfindShS
                    } else {
                        U1::BfindShU
                    }
                }
                "bfind" if ty.signed() => U1::BfindS,
                "bfind" => U1::BfindU,
                "ex2" => U1::Ex2,
                "lg2" => U1::Lg2,
                "rcp" => U1::Rcp,
                "rsqrt" => U1::Rsqrt,
                "sqrt" => U1::Sqrt,
                "sin" => U1::Sin,
                "cos" => U1::Cos,
                _ => U1::Tanh,
            };
            let s = d.src(&a[1], ty)?;
            let z = d.dst(&a[0])?;
            match ty {
                Ty::F32 => Op::UF32(u, fl, z, s),
                Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2 => Op::UH(u, ty, z, s),
                _ if w64 => Op::U64(u, z, s, f),
                Ty::S16 | Ty::U16 | Ty::B16 => {
                    // via 32 bits: correct for neg/not/abs after masking by the reader
                    match u {
                        U1::Neg => Op::B16(B2::Sub, false, z, d.konst(0), s),
                        U1::Not => Op::B16(B2::Xor, false, z, s, d.konst(0xffff)),
                        _ => return Err("unsupported 16-bit operation".into()),
                    }
                }
                _ => Op::U32(u, z, s),
            }
        }
        "mad" | "fma" => {
            need(4)?;
            if has("wide") {
                let (x, y, w, z) = (
                    d.src(&a[1], ty)?,
                    d.src(&a[2], ty)?,
                    d.src(&a[3], Ty::B64)?,
                    d.dst(&a[0])?,
                );
                return Ok(Op::MadWide(ty.signed(), ty.bytes() == 2, z, x, y, w));
            }
            if has("cc") || r.op.starts_with("madc") {
                return Err("mad with carry is not supported".into());
            }
            let (x, y, w, z) = (
                d.src(&a[1], ty)?,
                d.src(&a[2], ty)?,
                d.src(&a[3], ty)?,
                d.dst(&a[0])?,
            );
            if ty.float() {
                let t = if has("relu") { T3::FmaRelu } else { T3::Fma };
                match ty {
                    Ty::F32 => Op::TF32(t, fl, z, x, y, w),
                    Ty::F64 => Op::T64(T3::Fma, z, x, y, w),
                    _ => Op::TH(t, ty, z, x, y, w),
                }
            } else {
                let t = if has("hi") {
                    if ty.signed() { T3::MadHiS } else { T3::MadHiU }
                } else {
                    T3::Mad
                };
                match ty.bytes() {
                    8 => Op::T64(t, z, x, y, w),
                    2 => Op::T16(t, z, x, y, w),
                    _ => Op::T32(t, z, x, y, w),
                }
            }
        }
        "bfe" | "shf" | "prmt" | "sad" | "dp4a" => {
            need(4)?;
            let (x, y, w, z) = (
                d.src(&a[1], ty)?,
                d.src(&a[2], Ty::B32)?,
                d.src(&a[3], Ty::B32)?,
                d.dst(&a[0])?,
            );
            let s = ty.signed();
            let t = match parts[0] {
                "bfe" if s => T3::BfeS,
                "bfe" => T3::BfeU,
                "shf" if has("l") => T3::ShfL { wrap: has("wrap") },
                "shf" => T3::ShfR { wrap: has("wrap") },
                "sad" if s => T3::SadS,
                "sad" => T3::SadU,
                "dp4a" if s => T3::Dp4aS,
                "dp4a" => T3::Dp4aU,
                _ => {
                    let mode = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]
                        .iter()
                        .position(|x| has(x))
                        .map_or(0, |p| p as u8 + 1);
                    T3::Prmt(mode)
                }
            };
            if w64 {
                Op::T64(t, z, x, y, w)
            } else {
                Op::T32(t, z, x, y, w)
            }
        }
        "lop3" => {
            need(5)?;
            let Operand::Int(lut) = a[4] else {
                return Err("lop3 table must be an immediate".into());
            };
            let (x, y, w, z) = (
                d.src(&a[1], ty)?,
                d.src(&a[2], ty)?,
                d.src(&a[3], ty)?,
                d.dst(&a[0])?,
            );
            Op::Lop3(lut as u8, z, x, y, w)
        }
        "bfi" => {
            need(5)?;
            let (x, y, p, l) = (
                d.src(&a[1], ty)?,
                d.src(&a[2], ty)?,
                d.src(&a[3], Ty::B32)?,
                d.src(&a[4], Ty::B32)?,
            );
            Op::Bfi(d.dst(&a[0])?, x, y, p, l, w64)
        }
        "setp" | "set" => {
            let mut c = None;
            let mut pb = None;
            let cty = if parts[0] == "set" {
                tys[tys.len() - 1]
            } else {
                ty
            };
            for x in m {
                if let Some(v) = cmp(x, cty) {
                    c.get_or_insert(v);
                }
                match *x {
                    "and" => pb = Some(PBool::And),
                    "or" => pb = Some(PBool::Or),
                    "xor" => pb = Some(PBool::Xor),
                    _ => {}
                }
            }
            let (cmp, cty) = c.ok_or("no comparison")?;
            let (x, y) = (d.src(&a[1], cty)?, d.src(&a[2], cty)?);
            let third = match pb {
                Some(b) => {
                    need(4)?;
                    Some((b, d.psrc(&a[3])?))
                }
                None => None,
            };
            let mut spec = SetpSpec {
                cmp,
                ty: cty,
                p: d.psink,
                q: d.psink,
                a: x,
                b: y,
                c: third,
                ftz: fl.ftz,
            };
            if parts[0] == "set" {
                let z = d.dst(&a[0])?;
                return Ok(Op::Set(Box::new(spec), z, tys[0].float()));
            }
            match &a[0] {
                Operand::Pair(p, q) => {
                    spec.p = d.pdst(p)?;
                    spec.q = d.pdst(q)?;
                }
                o => spec.p = d.pdst(o)?,
            }
            if spec.c.is_none() && spec.q == d.psink && matches!(cty, Ty::S32 | Ty::U32 | Ty::B32) {
                Op::SetpI32 {
                    cmp,
                    signed: cty.signed(),
                    p: spec.p,
                    a: x,
                    b: y,
                }
            } else {
                Op::Setp(Box::new(spec))
            }
        }
        "selp" => {
            need(4)?;
            let (x, y) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?);
            let p = d.psrc(&a[3])?;
            let z = d.dst(&a[0])?;
            if w64 {
                Op::Selp64(z, x, y, p)
            } else {
                Op::Selp32(z, x, y, p)
            }
        }
        "slct" => {
            need(4)?;
            let (x, y, c) = (d.src(&a[1], ty)?, d.src(&a[2], ty)?, d.src(&a[3], ty)?);
            if tys[0].bytes() == 8 {
                return Err("64-bit slct is not supported".into());
            }
            Op::Slct(d.dst(&a[0])?, x, y, c, ty == Ty::F32)
        }
        "cvt" => {
            need(2)?;
            if has("pack") || tys.len() < 2 {
                return Err("unsupported cvt form".into());
            }
            let (to, from) = (tys[0], tys[1]);
            if a.len() == 3 {
                let (hi, lo, z) = (d.src(&a[1], from)?, d.src(&a[2], from)?, d.dst(&a[0])?);
                if to == Ty::BF16x2
                    && from == Ty::F32
                    && fl.rnd == Rnd::Rn
                    && !has("relu")
                    && !has("satfinite")
                {
                    return Ok(Op::CvtPackBf16 { d: z, hi, lo });
                }
                return Ok(Op::Cvt(Box::new(CvtSpec {
                    from,
                    to,
                    rnd: rnd(m),
                    sat: has("sat"),
                    satfinite: has("satfinite"),
                    relu: has("relu"),
                    ftz: fl.ftz,
                    d: z,
                    d64: false,
                    a: hi,
                    b: lo,
                })));
            }
            let d64 = d.is64(&a[0]);
            let s = d.src(&a[1], from)?;
            let z = d.dst(&a[0])?;
            if !has("sat") {
                match (to, from) {
                    (Ty::U64 | Ty::S64 | Ty::B64, Ty::U32 | Ty::B32) => {
                        return Ok(Op::Cvt64From32 {
                            d: z,
                            a: s,
                            signed: false,
                        });
                    }
                    (Ty::U64 | Ty::S64 | Ty::B64, Ty::S32) => {
                        return Ok(Op::Cvt64From32 {
                            d: z,
                            a: s,
                            signed: true,
                        });
                    }
                    (
                        Ty::U32 | Ty::S32 | Ty::B32,
                        Ty::U64 | Ty::S64 | Ty::B64 | Ty::U32 | Ty::S32,
                    ) if !d64 => return Ok(Op::Mov32(z, s)),
                    _ => {}
                }
            }
            Op::Cvt(Box::new(CvtSpec {
                from,
                to,
                rnd: rnd(m),
                sat: has("sat"),
                satfinite: has("satfinite"),
                relu: has("relu"),
                ftz: fl.ftz,
                d: z,
                d64,
                a: s,
                b: NO,
            }))
        }
        "cvta" => {
            need(2)?;
            let sp = space(m);
            let s = d.src(&a[1], Ty::B64)?;
            let z = d.dst(&a[0])?;
            if has("to") {
                Op::CvtaTo(sp, z, s, w64)
            } else {
                Op::CvtaFrom(sp, z, s, w64)
            }
        }
        "isspacep" => Op::IsSpace(space(m), d.pdst(&a[0])?, d.src(&a[1], Ty::B64)?),
        "mapa" => {
            need(3)?;
            let (s, rank) = (d.src(&a[1], ty)?, d.src(&a[2], Ty::B32)?);
            Op::Mapa {
                d: d.dst(&a[0])?,
                a: s,
                rank,
                w64,
            }
        }
        "getctarank" => {
            need(2)?;
            let s = d.src(&a[1], ty)?;
            let (first, count) = (d.konst(24), d.konst(8));
            Op::T32(T3::BfeU, d.dst(&a[0])?, s, first, count)
        }
        "ld" | "ldu" => {
            need(2)?;
            let sp = space(m);
            let addr = d.addr(&a[1])?;
            let b = ty.bytes();
            if b == 16 {
                return Err("128-bit scalars are not supported".into());
            }
            let mut dst = Vec::new();
            for o in d.list(&a[0]) {
                let wide = d.is64(o) && b < 8;
                let s = d.dst(o)?;
                let e = match (wide, ty.signed(), b) {
                    (true, false, _) => Ext::Z64,
                    (true, true, _) => Ext::S64,
                    (false, true, 1 | 2) => Ext::S32,
                    _ => Ext::None,
                };
                dst.push((s, e));
            }
            Op::Ld {
                sp,
                bytes: b as u8,
                addr,
                dst: dst.into(),
            }
        }
        "st" => {
            need(2)?;
            if has("async") {
                return tensor::st_async(d, a, m, ty);
            }
            let sp = space(m);
            let addr = d.addr(&a[0])?;
            let src = d.srcs(&a[1], ty)?;
            Op::St {
                sp,
                bytes: ty.bytes() as u8,
                addr,
                src: src.into(),
            }
        }
        "atom" | "red" => {
            if has("async") {
                return tensor::st_async(d, a, m, ty);
            }
            let red = parts[0] == "red";
            let i = if red { 0 } else { 1 };
            need(i + 2)?;
            let op = m
                .iter()
                .find_map(|x| {
                    Some(match *x {
                        "add" => AtomOp::Add,
                        "min" => AtomOp::Min,
                        "max" => AtomOp::Max,
                        "and" => AtomOp::And,
                        "or" => AtomOp::Or,
                        "xor" => AtomOp::Xor,
                        "exch" => AtomOp::Exch,
                        "cas" => AtomOp::Cas,
                        "inc" => AtomOp::Inc,
                        "dec" => AtomOp::Dec,
                        _ => return None,
                    })
                })
                .ok_or("unknown atomic")?;
            let addr = d.addr(&a[i])?;
            let b = d.srcs(&a[i + 1], ty)?;
            let c = if op == AtomOp::Cas {
                d.src(&a[i + 2], ty)?
            } else {
                NO
            };
            let dd = if red { vec![] } else { d.dsts(&a[0])? };
            Op::Atom(Box::new(AtomSpec {
                sp: space(m),
                op,
                ty,
                d: dd,
                addr,
                b,
                c,
            }))
        }
        "bra" => match a.first() {
            Some(Operand::Label(l)) => Op::Bra(d.k.labels[*l] as u32),
            _ => return Err("bad branch target".into()),
        },
        "brx" => {
            let (Some(Operand::Vec(l)), i) = (a.get(1), d.src(&a[0], Ty::U32)?) else {
                return Err("bad branch table".into());
            };
            let t = l
                .iter()
                .map(|x| match x {
                    Operand::Label(l) => Ok(d.k.labels[*l] as u32),
                    _ => Err("bad branch table".to_string()),
                })
                .collect::<R<Vec<u32>>>()?;
            Op::Brx(i, t.into())
        }
        "ret" | "exit" => Op::Exit,
        "trap" | "brkpt" => Op::Trap,
        "bar" | "barrier" => {
            if has("warp") {
                return Ok(Op::BarWarp(d.src(&a[0], Ty::B32)?));
            }
            if has("cluster") {
                return Ok(if has("wait") {
                    Op::ClusterWait
                } else {
                    Op::ClusterArrive(!has("relaxed"))
                });
            }
            if has("red") {
                let pop = has("popc");
                let (id, cnt, p) = if a.len() == 4 {
                    (1, Some(2), 3)
                } else {
                    (1, None, 2)
                };
                let id = d.src(&a[id], Ty::B32)?;
                let count = match cnt {
                    Some(c) => Some(d.src(&a[c], Ty::B32)?),
                    None => None,
                };
                let p = d.psrc(&a[p])?;
                let (dd, pd) = if pop {
                    (d.dst(&a[0])?, d.psink)
                } else {
                    (d.sink, d.pdst(&a[0])?)
                };
                let op = if pop {
                    0
                } else if has("and") {
                    1
                } else {
                    2
                };
                return Ok(Op::BarRed {
                    id,
                    count,
                    op,
                    d: dd,
                    pd,
                    p,
                });
            }
            let id = d.src(&a[0], Ty::B32)?;
            let count = if a.len() > 1 {
                Some(d.src(&a[1], Ty::B32)?)
            } else {
                None
            };
            Op::Bar {
                id,
                count,
                sync: !has("arrive"),
            }
        }
        "shfl" => {
            need(5)?;
            let mode = if has("up") {
                ShflMode::Up
            } else if has("down") {
                ShflMode::Down
            } else if has("bfly") {
                ShflMode::Bfly
            } else {
                ShflMode::Idx
            };
            let (x, b, c, mm) = (
                d.src(&a[1], ty)?,
                d.src(&a[2], ty)?,
                d.src(&a[3], ty)?,
                d.src(&a[4], ty)?,
            );
            let (z, p) = d.dpair(&a[0])?;
            Op::Shfl {
                mode,
                d: z,
                p,
                a: x,
                b,
                c,
                m: mm,
            }
        }
        "vote" => {
            need(3)?;
            let kind = ["all", "any", "uni", "ballot"]
                .iter()
                .position(|x| has(x))
                .ok_or("unknown vote")? as u8;
            let p = d.psrc(&a[1])?;
            let mm = d.src(&a[2], Ty::B32)?;
            let (z, pd) = if kind == 3 {
                (d.dst(&a[0])?, d.psink)
            } else {
                (d.sink, d.pdst(&a[0])?)
            };
            Op::Vote {
                kind,
                d: z,
                pd,
                p,
                m: mm,
            }
        }
        "match" => {
            need(3)?;
            let x = d.src(&a[1], ty)?;
            let mm = d.src(&a[2], Ty::B32)?;
            let (z, pd) = d.dpair(&a[0])?;
            Op::Match {
                all: has("all"),
                w64,
                d: z,
                pd,
                a: x,
                m: mm,
            }
        }
        "redux" => {
            need(3)?;
            let op = match redop(m).ok_or("unknown redux")? {
                RedOp::Add => AtomOp::Add,
                RedOp::Min => AtomOp::Min,
                RedOp::Max => AtomOp::Max,
                RedOp::And => AtomOp::And,
                RedOp::Or => AtomOp::Or,
                _ => AtomOp::Xor,
            };
            let x = d.src(&a[1], ty)?;
            let mm = d.src(&a[2], Ty::B32)?;
            Op::Redux {
                op,
                signed: ty.signed(),
                d: d.dst(&a[0])?,
                a: x,
                m: mm,
            }
        }
        "elect" => {
            need(2)?;
            let mm = d.src(&a[1], Ty::B32)?;
            let (z, p) = d.dpair(&a[0])?;
            Op::Elect { d: z, p, m: mm }
        }
        "activemask" => Op::ActiveMask(d.dst(&a[0])?),
        "ldmatrix" => {
            need(2)?;
            if !has("m8n8") {
                return Err("only m8n8 ldmatrix is supported".into());
            }
            let addr = d.addr(&a[1])?;
            let z = d.dsts(&a[0])?;
            Op::Ldmatrix {
                trans: has("trans"),
                d: z.into(),
                addr,
            }
        }
        "stmatrix" => {
            need(2)?;
            let addr = d.addr(&a[0])?;
            let z = d.srcs(&a[1], Ty::B32)?;
            Op::Stmatrix {
                trans: has("trans"),
                s: z.into(),
                addr,
            }
        }
        "mma" | "wgmma" | "mbarrier" | "cp" => tensor::decode(d, &parts, a)?,
        "fence" => {
            if has("proxy") && has("async")
                || has("async::global")
                || has("async::shared::cta")
                || m.iter().any(|x| x.starts_with("async"))
            {
                Op::FenceProxy
            } else if has("mbarrier_init") {
                Op::FenceInit
            } else {
                Op::Nop
            }
        }
        "membar" | "prefetch" | "prefetchu" | "griddepcontrol" | "applypriority" | "discard"
        | "createpolicy" | "pmevent" => {
            if parts[0] == "createpolicy" {
                let z = d.dst(&a[0])?;
                let zero = d.konst(0);
                return Ok(Op::Mov64(z, zero));
            }
            Op::Nop
        }
        "setmaxnreg" => match a.first() {
            Some(Operand::Int(n)) if (24..=256).contains(n) && n % 8 == 0 => {
                Op::SetMaxNReg(*n as u32)
            }
            _ => {
                return Err("register count must be an immediate multiple of 8 in 24..=256".into());
            }
        },
        "nanosleep" => Op::Yield,
        _ => return Err("unknown instruction".into()),
    })
}
