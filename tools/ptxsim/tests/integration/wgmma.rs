//! wgmma through TMA-written shared memory: every swizzle, both majors, both sources of A.
use crate::common::{HEAD, Rng};
use half::{bf16, f16};
use ptxsim::*;
use std::fmt::Write;

#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    k: usize,
    swz: Swizzle,
    a_mn: bool,
    b_mn: bool,
    a_regs: bool,
    ty: Ty,
}

const SHARED: &str = ".extern .shared .align 1024 .b8 sm[];\n";

struct Operand {
    boxes: usize,
    box_inner: usize,
    box_rows: usize,
    bytes: usize,
    lbo: usize,
    sbo: usize,
}

/// How an operand of `mn` x `k` elements lies in shared memory when loaded by TMA boxes as wide as the swizzle.
fn layout(mn: usize, k: usize, es: usize, swz: Swizzle, mn_major: bool) -> Operand {
    let span = if swz == Swizzle::None {
        16
    } else {
        swz_bytes(swz)
    };
    let inner = span / es;
    if mn_major {
        let panel = k * span;
        let (lbo, sbo) = if swz == Swizzle::None {
            (128, panel)
        } else {
            (panel, 8 * span)
        };
        Operand {
            boxes: mn.div_ceil(inner),
            box_inner: inner,
            box_rows: k,
            bytes: panel,
            lbo,
            sbo,
        }
    } else {
        let panel = mn * span;
        let (lbo, sbo) = if swz == Swizzle::None {
            (panel, 128)
        } else {
            (16, 8 * span)
        };
        Operand {
            boxes: k.div_ceil(inner),
            box_inner: inner,
            box_rows: mn,
            bytes: panel,
            lbo,
            sbo,
        }
    }
}

fn swz_bytes(s: Swizzle) -> usize {
    match s {
        Swizzle::B32 => 32,
        Swizzle::B64 => 64,
        Swizzle::B128 => 128,
        Swizzle::None => 16,
    }
}

/// Byte offset of k-step `s` (32 bytes of K).
fn kstep(o: &Operand, s: usize, es: usize, swz: Swizzle, mn_major: bool) -> usize {
    let span = swz_bytes(swz);
    if mn_major {
        s * (32 / es) * span
    } else if swz == Swizzle::None {
        s * 2 * o.bytes
    } else {
        let b = s * 32;
        (b / span) * o.bytes + b % span
    }
}

fn run(c: Case) -> f64 {
    let es = c.ty.bytes();
    let (m, n, k) = (64, c.n, c.k);
    let mut r = Rng(77 + n as u64);
    let val: Vec<f32> = (0..(m + n) * k).map(|_| r.next()).collect();
    let round = |x: f32| match c.ty {
        Ty::BF16 => bf16::from_f32(x).to_f32(),
        _ => f16::from_f32(x).to_f32(),
    };
    let a: Vec<f32> = val[..m * k].iter().map(|x| round(*x)).collect(); // [m][k]
    let b: Vec<f32> = val[m * k..].iter().map(|x| round(*x)).collect(); // [n][k]
    let bits = |v: Vec<f32>| -> Vec<u8> {
        v.iter()
            .flat_map(|x| match c.ty {
                Ty::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
                _ => f16::from_f32(*x).to_le_bytes().to_vec(),
            })
            .collect()
    };
    let tr = |v: &[f32], r: usize, cc: usize| {
        (0..cc)
            .flat_map(|j| (0..r).map(move |i| (i, j)))
            .map(|(i, j)| v[i * cc + j])
            .collect::<Vec<f32>>()
    };
    let ga = if c.a_mn { tr(&a, m, k) } else { a.clone() };
    let gb = if c.b_mn { tr(&b, n, k) } else { b.clone() };
    let mut dev = Device::new();
    let (ba, bb) = (dev.upload(&bits(ga)), dev.upload(&bits(gb)));
    let out = dev.alloc(m * n * 4);
    let frag = dev.upload(&bits(a.clone()));
    let (la, lb) = (
        layout(m, k, es, c.swz, c.a_mn),
        layout(n, k, es, c.swz, c.b_mn),
    );
    let mut map = |buf: Buffer, l: &Operand, mn: usize, mn_major: bool| {
        let (inner, outer) = if mn_major { (mn, k) } else { (k, mn) };
        dev.tensor_map(TensorMap {
            ty: c.ty,
            base: buf.address,
            dims: vec![inner as u64, outer as u64],
            strides: vec![(inner * es) as u64],
            box_dims: vec![l.box_inner as u32, l.box_rows as u32],
            swizzle: c.swz,
        })
        .unwrap()
    };
    let (ma, mb) = (map(ba, &la, m, c.a_mn), map(bb, &lb, n, c.b_mn));
    let asz = (la.boxes * la.bytes).next_multiple_of(1024);
    let bsz = (lb.boxes * lb.bytes).next_multiple_of(1024);
    let mut p = format!("{HEAD}{SHARED}");
    p += ".visible .entry k(.param .align 64 .b8 ma[128], .param .align 64 .b8 mb[128], .param .u64 out, .param .u64 fr)\n{\n";
    p += ".reg .pred p, q;\n.reg .b32 %r<64>;\n.reg .b64 %rd<32>;\n.reg .b32 %a<4>;\n";
    writeln!(p, ".reg .f32 %d<{}>;", n / 2).unwrap();
    p += "mov.u32 %r0, %tid.x;\nmov.u32 %r1, sm;\n";
    writeln!(
        p,
        "add.u32 %r2, %r1, {asz};\nadd.u32 %r3, %r1, {};",
        asz + bsz
    )
    .unwrap();
    p += "mov.b64 %rd0, ma;\ncvta.param.u64 %rd0, %rd0;\nmov.b64 %rd1, mb;\ncvta.param.u64 %rd1, %rd1;\n";
    p += "setp.ne.u32 p, %r0, 0;\n@p bra L1;\nmbarrier.init.shared::cta.b64 [%r3], 1;\nfence.mbarrier_init.release.cluster;\n";
    writeln!(
        p,
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], {};",
        la.boxes * la.bytes + lb.boxes * lb.bytes
    )
    .unwrap();
    for (l, base, map, mn_major) in [(&la, "%r1", "%rd0", c.a_mn), (&lb, "%r2", "%rd1", c.b_mn)] {
        let _ = mn_major;
        for i in 0..l.boxes {
            writeln!(
                p,
                "add.u32 %r4, {base}, {};\nmov.u32 %r5, {};\nmov.u32 %r6, 0;",
                i * l.bytes,
                i * l.box_inner
            )
            .unwrap();
            writeln!(p, "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r4], [{map}, {{%r5, %r6}}], [%r3];").unwrap();
        }
    }
    p += "L1:\nbar.sync 0;\n{\nW: mbarrier.try_wait.parity.shared::cta.b64 q, [%r3], 0;\n@!q bra W;\n}\n";
    let desc = |l: &Operand| -> u64 {
        let s = match c.swz {
            Swizzle::None => 0u64,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        ((l.lbo / 16) as u64) << 16 | ((l.sbo / 16) as u64) << 32 | s << 62
    };
    let dl = (0..n / 2)
        .map(|i| format!("%d{i}"))
        .collect::<Vec<_>>()
        .join(", ");
    let ty = match c.ty {
        Ty::BF16 => "bf16",
        _ => "f16",
    };
    let kk = 32 / es;
    p += "ld.param.u64 %rd8, [fr];\nshr.u32 %r10, %r0, 5;\nand.b32 %r11, %r0, 31;\nshr.u32 %r12, %r11, 2;\nand.b32 %r13, %r11, 3;\nshl.b32 %r14, %r10, 4;\nadd.u32 %r14, %r14, %r12;\n";
    p += "shr.u32 %r7, %r1, 4;\nshr.u32 %r8, %r2, 4;\ncvt.u64.u32 %rd2, %r7;\ncvt.u64.u32 %rd3, %r8;\n";
    writeln!(
        p,
        "or.b64 %rd2, %rd2, {};\nor.b64 %rd3, %rd3, {};",
        desc(&la) as i64,
        desc(&lb) as i64
    )
    .unwrap();
    for s in 0..k / kk {
        if c.a_regs {
            // row-major A straight from global memory
            for i in 0..4 {
                let (dr, dc) = (8 * (i % 2), if es == 2 { 8 * (i / 2) } else { 4 * (i / 2) });
                let col = if es == 2 {
                    format!(
                        "shl.b32 %r20, %r13, 1;\nadd.u32 %r20, %r20, {};",
                        s * kk + dc
                    )
                } else {
                    format!("add.u32 %r20, %r13, {};", s * kk + dc)
                };
                writeln!(p, "{col}\nadd.u32 %r21, %r14, {dr};\nmad.lo.u32 %r21, %r21, {k}, %r20;\nmul.wide.u32 %rd9, %r21, {es};\nadd.s64 %rd9, %rd9, %rd8;\nld.global.b32 %a{i}, [%rd9];").unwrap();
            }
        }
        p += "wgmma.fence.sync.aligned;\n";
        writeln!(
            p,
            "add.s64 %rd4, %rd2, {};\nadd.s64 %rd5, %rd3, {};",
            kstep(&la, s, es, c.swz, c.a_mn) / 16,
            kstep(&lb, s, es, c.swz, c.b_mn) / 16
        )
        .unwrap();
        let asrc = if c.a_regs {
            "{%a0, %a1, %a2, %a3}"
        } else {
            "%rd4"
        };
        let tr = if es == 4 {
            String::new()
        } else if c.a_regs {
            format!(", {}", c.b_mn as u8)
        } else {
            format!(", {}, {}", c.a_mn as u8, c.b_mn as u8)
        };
        writeln!(p, "setp.ne.u32 p, {s}, 0;\nwgmma.mma_async.sync.aligned.m64n{n}k{kk}.f32.{ty}.{ty} {{{dl}}}, {asrc}, %rd5, p, 1, 1{tr};").unwrap();
        p += "wgmma.commit_group.sync.aligned;\n";
        if c.a_regs {
            p += "wgmma.wait_group.sync.aligned 0;\n";
        }
    }
    p += "wgmma.wait_group.sync.aligned 0;\nld.param.u64 %rd6, [out];\n";
    for i in 0..n / 2 {
        let (dr, dc) = (8 * ((i / 2) % 2), 8 * (i / 4) + i % 2);
        writeln!(p, "shl.b32 %r20, %r13, 1;\nadd.u32 %r20, %r20, {dc};\nadd.u32 %r21, %r14, {dr};\nmad.lo.u32 %r21, %r21, {n}, %r20;\nmul.wide.u32 %rd7, %r21, 4;\nadd.s64 %rd7, %rd7, %rd6;\nst.global.f32 [%rd7], %d{i};").unwrap();
    }
    p += "ret;\n}\n";
    let module = Module::load(&p).unwrap_or_else(|e| panic!("{c:?} {e}"));
    let mut worst = 0f64;
    for mode in [Mode::Eager, Mode::Lazy] {
        let launch = Launch {
            mode,
            shared: asz + bsz + 8,
            ..Launch::new([1; 3], [128, 1, 1])
        };
        let args = [ma.into(), mb.into(), out.into(), frag.into()];
        let st = dev
            .launch(&module, "k", &launch, &args)
            .unwrap_or_else(|e| panic!("{c:?} {mode:?} {e}"));
        assert!(st.warnings.is_empty(), "{c:?} {:?}", st.warnings);
        let d: Vec<f32> = dev.download(out).unwrap();
        for i in 0..m {
            for j in 0..n {
                let w: f64 = (0..k)
                    .map(|x| a[i * k + x] as f64 * b[j * k + x] as f64)
                    .sum();
                let e = (d[i * n + j] as f64 - w).abs();
                worst = if e.is_nan() {
                    f64::INFINITY
                } else {
                    worst.max(e)
                };
            }
        }
    }
    worst
}

#[test]
fn every_layout() {
    let mut count = 0;
    for swz in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
        for a_mn in [false, true] {
            for b_mn in [false, true] {
                for a_regs in [false, true] {
                    if a_regs && a_mn {
                        continue;
                    }
                    for ty in [Ty::BF16, Ty::F16] {
                        let c = Case {
                            n: 64,
                            k: 64,
                            swz,
                            a_mn,
                            b_mn,
                            a_regs,
                            ty,
                        };
                        let e = run(c);
                        assert!(e < 1e-4, "{c:?}: {e}");
                        count += 1;
                    }
                }
            }
        }
    }
    assert_eq!(count, 48);
}

#[test]
fn every_n() {
    for n in (8..=256).step_by(8) {
        let c = Case {
            n,
            k: 32,
            swz: Swizzle::B64,
            a_mn: false,
            b_mn: false,
            a_regs: n % 16 == 0,
            ty: Ty::BF16,
        };
        let e = run(c);
        assert!(e < 1e-4, "{c:?}: {e}");
    }
    for n in (64..=256).step_by(64) {
        let c = Case {
            n,
            k: 128,
            swz: Swizzle::B128,
            a_mn: false,
            b_mn: true,
            a_regs: true,
            ty: Ty::BF16,
        };
        let e = run(c);
        assert!(e < 1e-4, "{c:?}: {e}");
    }
}

/// Halves as accumulators, a scale of D that is a constant, and negated operands.
#[test]
fn half_accumulators_and_signs() {
    for (signs, scale_d, expected) in [
        ("1, 1", 1, 2.0 + 16.0),
        ("-1, 1", 1, 2.0 - 16.0),
        ("1, -1", 1, 2.0 - 16.0),
        ("-1, -1", 1, 2.0 + 16.0),
        ("1, 1", 0, 16.0),
    ] {
        let source = format!(
            "{HEAD}.visible .entry k(.param .u64 out)
{{
.reg .pred %p;
.reg .b32 %r<8>;
.reg .b64 %rd<8>;
.shared .align 128 .b8 sm[256];
mov.u32 %r0, %tid.x;
setp.lt.u32 %p, %r0, 64;
mov.u32 %r1, sm;
mad.lo.u32 %r2, %r0, 4, %r1;
@%p st.shared.u32 [%r2], 0x3c003c00;
fence.proxy.async.shared::cta;
bar.sync 0;
shr.u32 %r3, %r1, 4;
cvt.u64.u32 %rd1, %r3;
or.b64 %rd1, %rd1, {descriptor};
mov.b32 %r4, 0x40004000;
mov.b32 %r5, %r4;
mov.b32 %r6, 0x3c003c00;
wgmma.fence.sync.aligned;
wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {{%r4, %r5}}, {{%r6, %r6, %r6, %r6}}, %rd1, {scale_d}, {signs}, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
ld.param.u64 %rd2, [out];
mul.wide.u32 %rd3, %r0, 8;
add.s64 %rd2, %rd2, %rd3;
st.global.v2.u32 [%rd2], {{%r4, %r5}};
ret;
}}
",
            descriptor = (8u64 << 16) | (8 << 32),
        );
        let mut dev = Device::new();
        let out = dev.alloc(128 * 8);
        let module = Module::load(&source).unwrap_or_else(|e| panic!("{e}"));
        let launch = Launch::new([1; 3], [128, 1, 1]);
        dev.launch_in_all_orders(&module, "k", &launch, &[out.into()])
            .unwrap_or_else(|e| panic!("{e}"));
        let d: Vec<f16> = dev.download(out).unwrap();
        assert!(
            d.iter().all(|x| x.to_f32() == expected),
            "{signs}, {scale_d}: {d:?}"
        );
    }
}
