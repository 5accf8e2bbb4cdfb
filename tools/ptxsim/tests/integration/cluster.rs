//! Thread-block clusters: multicast, distributed shared memory, cluster barriers (the kernel of `ptx/multicast.cu`).
use crate::common::{HEAD, every_order};
use ptxsim::*;

const PTX: &str = include_str!("ptx/multicast.sm_90a.ptx");

fn configs() -> Vec<Launch> {
    every_order(&Launch::new([1; 3], [1; 3]))
}

/// The errors of the configurations that fail; each must contain `what`.
fn failures(what: &str, run: impl Fn(&Launch) -> Option<Error>) -> usize {
    let e: Vec<String> = configs()
        .iter()
        .filter_map(run)
        .map(|e| e.to_string())
        .collect();
    let odd: Vec<_> = e.iter().filter(|e| !e.contains(what)).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    e.len()
}

/// The number of failures when every configuration fails.
const ALL: usize = 16;
const NO_START: &str = "may not have started yet";
const NO_END: &str = "(no barrier.cluster at the end?)";

const FLAW_EMPTY: u32 = 1;
const FLAW_END: u32 = 2;
const FLAW_START: u32 = 4;

fn multicast(tiles: u32, flaw: u32, warps: u32, cfg: &Launch) -> Result<Stats, Error> {
    let (rows, cols) = (tiles as usize * 16, 64);
    let x: Vec<f32> = (0..rows * cols).map(|i| (i * 7 % 31) as f32).collect();
    let mut dev = Device::new();
    let b = dev.upload(&x);
    let n = (warps as usize - 1) * 32;
    // two clusters: all CTAs read the same tiles
    let o = dev.alloc(4 * n * 4);
    let map = dev
        .tensor_map(TensorMap {
            ty: Ty::F32,
            base: b.address,
            dims: vec![cols as u64, rows as u64],
            strides: vec![cols as u64 * 4],
            box_dims: vec![64, 8],
            swizzle: Swizzle::None,
        })
        .unwrap();
    let launch = Launch {
        grid: [4, 1, 1],
        block: [warps * 32, 1, 1],
        ..cfg.clone()
    };
    let s = dev.launch(
        &Module::load(PTX).unwrap(),
        "multicast",
        &launch,
        &[map.into(), o.into(), tiles.into(), flaw.into()],
    )?;
    let y: Vec<f32> = dev.download(o).unwrap();
    for cta in 0..4 {
        for c in 0..n {
            let w: f32 = (0..tiles as usize)
                .map(|k| {
                    (c..1024)
                        .step_by(n)
                        .map(|i| x[k * 1024 + i] * (k + 1 + cta % 2) as f32)
                        .sum::<f32>()
                })
                .sum();
            assert_eq!(y[cta * n + c], w, "CTA {cta} thread {c}");
        }
    }
    Ok(s)
}

#[test]
fn multicast_halves() {
    for cfg in configs() {
        let s = multicast(7, 0, 3, &cfg).unwrap_or_else(|e| panic!("{cfg:?}: {e}"));
        assert!(s.warnings.is_empty(), "{cfg:?}: {:?}", s.warnings);
        assert_eq!((s.bulk_loads, s.bulk_bytes), (2 * 2 * 7, 2 * 7 * 4096));
    }
    let parallel = Launch {
        parallel: true,
        ..Launch::new([1; 3], [1; 3])
    };
    multicast(3, 0, 2, &parallel).unwrap();
}

#[test]
fn multicast_into_a_stage_the_peer_still_reads() {
    let run = |cfg: &Launch| std::panic::catch_unwind(|| multicast(7, FLAW_EMPTY, 3, cfg).err());
    // the results are wrong, or the poisoned stage is noticed
    let bad = configs()
        .iter()
        .filter(|c| run(c).map_or(true, |e| e.is_some()))
        .count();
    assert!(bad >= 8, "{bad}");
    let lazy = Launch {
        schedule: Schedule::LowFirst,
        ..Launch::new([1; 3], [1; 3])
    };
    let e = multicast(7, FLAW_EMPTY, 3, &lazy).unwrap_err().to_string();
    assert!(e.contains("in flight"), "{e}");
}

#[test]
fn missing_cluster_barriers() {
    assert_eq!(
        failures(NO_END, |c| multicast(7, FLAW_END, 3, c).err()),
        ALL
    );
    assert_eq!(
        failures(NO_START, |c| multicast(7, FLAW_START, 3, c).err()),
        ALL
    );
}

/// A kernel of one warp per CTA; `%r0` rank, `%r1` own buffer, `%r2` mbarrier, `%r3`, `%r4` those of the other CTA of a pair.
fn pair_stats(body: &str, cfg: &Launch) -> Result<(Vec<u32>, Stats), Error> {
    let src = format!(
        "{HEAD}.visible .entry k(.param .u64 q)\n.explicitcluster\n{{\n.reg .pred %p<8>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n.shared .align 128 .b8 sm[1024];\n.shared .align 8 .b8 mb[16];\n\
        ld.param.u64 %rd1, [q];\nmov.u32 %r0, %cluster_ctarank;\nmov.u32 %r1, sm;\nmov.u32 %r2, mb;\nxor.b32 %r5, %r0, 1;\nmapa.shared::cluster.u32 %r3, %r1, %r5;\nmapa.shared::cluster.u32 %r4, %r2, %r5;\n\
        setp.eq.u32 %p0, %r0, 0;\nmov.u32 %r6, %tid.x;\nsetp.eq.u32 %p1, %r6, 0;\nmul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd1, %rd1, %rd2;\n{body}\nret;\n}}\n"
    );
    let m = Module::load(&src).unwrap_or_else(|e| panic!("{e}"));
    let mut dev = Device::new();
    let q = dev.alloc(64);
    let launch = Launch {
        grid: [2, 1, 1],
        block: [32, 1, 1],
        ..cfg.clone()
    };
    let s = dev.launch(&m, "k", &launch, &[q.into()])?;
    Ok((dev.download(q).unwrap(), s))
}

fn pair(body: &str, cfg: &Launch) -> Result<Vec<u32>, Error> {
    Ok(pair_stats(body, cfg)?.0)
}

const SYNC: &str = "barrier.cluster.arrive;\nbarrier.cluster.wait;\n";

#[test]
fn cluster_errors_are_readable() {
    let fails = |body: &str, what: &str| {
        let e = pair(
            body,
            &Launch {
                cluster: Some([2, 1, 1]),
                ..Launch::new([1; 3], [1; 3])
            },
        )
        .unwrap_err()
        .to_string();
        assert!(e.contains(what), "{body}: {e}");
    };
    fails(
        &format!("{SYNC}@!%p0 bra E;\n{SYNC}E:\nbarrier.cluster.arrive;\n{SYNC}"),
        "arrives twice",
    );
    fails(
        "barrier.cluster.wait;",
        "waits without barrier.cluster.arrive",
    );
    fails(
        &format!("{SYNC}@%p0 ld.shared.u32 %r7, [%r3];\n{SYNC}"),
        "belongs to CTA rank 1, but the access is to shared::cta of CTA rank 0",
    );
    fails(
        &format!(
            "{SYNC}@%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];\n{SYNC}"
        ),
        "no mbarrier is initialised at 0x1000800",
    );
    fails(
        &format!("{SYNC}mapa.shared::cluster.u32 %r7, %r1, 2;"),
        "CTA rank 2 in a cluster of 2",
    );
    let init = format!("@%p1 mbarrier.init.shared::cta.b64 [%r2], 1;\n{SYNC}");
    fails(
        &format!("{init}@%p0 mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r4], 0;\n{SYNC}"),
        "belongs to CTA rank 1",
    );
    let bulk = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes";
    fails(
        &format!("{init}and.pred %p1, %p1, %p0;\n@%p1 {bulk} [%r3], [%rd1], 16, [%r2];\n{SYNC}"),
        "the destination lies in CTA rank 1, the mbarrier in CTA rank 0",
    );
    fails(
        &format!(
            "{init}and.pred %p1, %p1, %p0;\nmov.u32 %r7, 5;\n@%p1 {bulk}.multicast::cluster [%r1], [%rd1], 16, [%r2], %r7;\n{SYNC}"
        ),
        "multicast mask 0x5",
    );
    // one CTA waits for an arrival its peer never makes
    fails(
        &format!(
            "{init}@!%p0 bra E;\nW: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;\n@!%p2 bra W;\nE:\n{SYNC}"
        ),
        "CTA rank 1 warp 0",
    );
    let none = pair(SYNC, &Launch::new([1; 3], [1; 3]))
        .unwrap_err()
        .to_string();
    assert!(none.contains("needs Launch::cluster"), "{none}");
    let odd = pair(
        SYNC,
        &Launch {
            cluster: Some([4, 1, 1]),
            ..Launch::new([1; 3], [1; 3])
        },
    )
    .unwrap_err()
    .to_string();
    assert!(odd.contains("not a multiple of the cluster"), "{odd}");
}

/// Exited threads count as arrived; arrive and wait may be apart; lanes of a warp may wait apart.
#[test]
fn cluster_barrier() {
    let body = "st.shared::cluster.u32 [%r3], 17;\n@%p0 bra E;\nadd.u32 %r7, %r6, 0;\nE:\nbarrier.cluster.arrive.release;\n@!%p0 bra B;\nbarrier.cluster.wait.acquire;\nld.shared.u32 %r7, [%r1];\nst.global.u32 [%rd1], %r7;\n\
        barrier.cluster.arrive.release;\nexit;\nB:\nsetp.lt.u32 %p2, %r6, 8;\n@%p2 bra C;\nbarrier.cluster.wait.acquire;\nbra D;\nC:\nbarrier.cluster.wait.acquire;\nD:\nld.shared.u32 %r7, [%r1];\nst.global.u32 [%rd1], %r7;\n\
        barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;";
    for cfg in configs() {
        let o = pair(
            &format!("{SYNC}{body}"),
            &Launch {
                cluster: Some([2, 1, 1]),
                ..cfg
            },
        )
        .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(o[..2], [17, 17]);
    }
}

/// No barrier.cluster is needed at the end when each CTA waits for the last arrival of its peer.
#[test]
fn mbarrier_instead_of_a_final_barrier() {
    let body = |last: &str| {
        format!(
            "@%p1 mbarrier.init.shared::cta.b64 [%r2], 32;\nfence.mbarrier_init.release.cluster;\n{SYNC}st.shared::cluster.u32 [%r3], %r0;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];\n{last}\n\
            W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r2], 0;\n@!%p2 bra W;\nld.shared.u32 %r7, [%r1];\nst.global.u32 [%rd1], %r7;"
        )
    };
    let run = |last: &str, c: &Launch| {
        pair(
            &body(last),
            &Launch {
                cluster: Some([2, 1, 1]),
                ..c.clone()
            },
        )
    };
    for cfg in configs() {
        assert_eq!(run("", &cfg).unwrap_or_else(|e| panic!("{e}"))[..2], [1, 0]);
    }
    assert_eq!(
        failures(NO_END, |c| run(
            "@%p1 st.shared::cluster.u32 [%r3+4], %r0;",
            c
        )
        .err()),
        ALL
    );
}

#[test]
fn unpublished_mbarriers() {
    let body = |fence: &str, arrive: &str| {
        format!(
            "@%p1 mbarrier.init.shared::cta.b64 [%r2], 32;\n{fence}\nbarrier.cluster.arrive{arrive};\nbarrier.cluster.wait;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];\n{SYNC}"
        )
    };
    let run = |fence: &str, arrive: &str, tolerate: Vec<Check>| {
        let launch = Launch {
            cluster: Some([2, 1, 1]),
            tolerate,
            ..Launch::new([1; 3], [1; 3])
        };
        pair_stats(&body(fence, arrive), &launch).map(|(_, stats)| stats.warnings.len())
    };
    assert!(
        run("", ".relaxed", vec![])
            .unwrap_err()
            .message
            .contains("initialised without fence.mbarrier_init")
    );
    assert_eq!(run("", ".relaxed", vec![Check::Proxy]), Ok(1));
    assert_eq!(
        run("fence.mbarrier_init.release.cluster;", ".relaxed", vec![]),
        Ok(0)
    );
    assert_eq!(
        (run("", ".release", vec![]), run("", "", vec![])),
        (Ok(0), Ok(0))
    );
}

/// Ranks, cluster and CTA numbers of a two-dimensional cluster, with dimensions from the launch or from the kernel.
#[test]
fn two_dimensions() {
    let regs = [
        "cluster_ctarank",
        "cluster_ctaid.x",
        "cluster_ctaid.y",
        "clusterid.x",
        "clusterid.y",
        "nclusterid.x",
        "nclusterid.y",
        "cluster_nctaid.y",
    ];
    for directive in ["", ".reqnctapercluster 2, 3"] {
        let mut src = format!(
            "{HEAD}.visible .entry k(.param .u64 q)\n{directive}\n{{\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\nld.param.u64 %rd1, [q];\nmov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %ctaid.y;\n\
            mad.lo.u32 %r0, %r1, 4, %r0;\nmul.wide.u32 %rd2, %r0, 32;\nadd.s64 %rd1, %rd1, %rd2;\n"
        );
        for (i, r) in regs.iter().enumerate() {
            src += &format!("mov.u32 %r2, %{r};\nst.global.u32 [%rd1+{}], %r2;\n", i * 4);
        }
        src += "ret;\n}\n";
        let mut dev = Device::new();
        let q = dev.alloc(4 * 6 * 32);
        let cluster = directive.is_empty().then_some([2, 3, 1]);
        let cfg = Launch {
            cluster,
            ..Launch::new([4, 6, 1], [1; 3])
        };
        dev.launch(&Module::load(&src).unwrap(), "k", &cfg, &[q.into()])
            .unwrap();
        for (i, o) in dev.download::<u32>(q).unwrap().chunks(8).enumerate() {
            let (x, y) = (i as u32 % 4, i as u32 / 4);
            assert_eq!(
                o,
                [x % 2 + y % 3 * 2, x % 2, y % 3, x / 2, y / 3, 2, 2, 3],
                "CTA {x} {y}"
            );
        }
    }
}
