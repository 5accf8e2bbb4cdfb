//! Thread-block clusters: multicast, distributed shared memory, cluster barriers (kernels in `ptx/cluster.cu`).
use ptxsim::*;

const PTX: &str = include_str!("ptx/cluster.sm_90a.ptx");

fn configs() -> Vec<Config> {
    let mut v = Vec::new();
    for mode in [Mode::Eager, Mode::Lazy, Mode::Random(1), Mode::Random(2)] {
        for schedule in [
            Schedule::RoundRobin,
            Schedule::LowFirst,
            Schedule::HighFirst,
            Schedule::Random(3),
        ] {
            v.push(Config {
                mode,
                schedule,
                ..Default::default()
            });
        }
    }
    v
}

/// The errors of the configurations that fail; each must contain `what`.
fn failures(what: &str, run: impl Fn(&Config) -> Option<SimError>) -> usize {
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

fn multicast(tiles: u32, flaw: u32, warps: u32, cfg: &Config) -> Result<Stats, SimError> {
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
            base: b.addr,
            dims: vec![cols as u64, rows as u64],
            strides: vec![cols as u64 * 4],
            box_dims: vec![64, 8],
            elem_strides: vec![1, 1],
            swizzle: Swizzle::None,
            oob_nan: false,
        })
        .unwrap();
    let s = dev.launch(
        &Module::load(PTX).unwrap(),
        "multicast",
        [4, 1, 1],
        [warps * 32, 1, 1],
        0,
        &[map.into(), o.into(), tiles.into(), flaw.into()],
        cfg,
    )?;
    let y: Vec<f32> = dev.download(o);
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
    let parallel = Config {
        parallel: true,
        ..Default::default()
    };
    multicast(3, 0, 2, &parallel).unwrap();
}

#[test]
fn multicast_into_a_stage_the_peer_still_reads() {
    let run = |cfg: &Config| std::panic::catch_unwind(|| multicast(7, FLAW_EMPTY, 3, cfg).err());
    // the results are wrong, or the poisoned stage is noticed
    let bad = configs()
        .iter()
        .filter(|c| run(c).map_or(true, |e| e.is_some()))
        .count();
    assert!(bad >= 8, "{bad}");
    let lazy = Config {
        schedule: Schedule::LowFirst,
        ..Default::default()
    };
    let e = multicast(7, FLAW_EMPTY, 3, &lazy).unwrap_err().to_string();
    assert!(
        e.contains("uninitialised") || e.contains("transaction") || e.contains("deadlock"),
        "{e}"
    );
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

fn dsmem(flaw: u32, cfg: &Config) -> Result<Vec<u32>, SimError> {
    let mut dev = Device::new();
    let o = dev.alloc(12 * 256 * 4);
    dev.launch(
        &Module::load(PTX).unwrap(),
        "dsmem",
        [12, 1, 1],
        [64, 1, 1],
        0,
        &[o.into(), flaw.into()],
        cfg,
    )?;
    Ok(dev.download(o))
}

#[test]
fn distributed_shared_memory() {
    for n in [1, 2, 3, 4] {
        for cfg in configs() {
            let o = dsmem(
                0,
                &Config {
                    cluster: Some([n, 1, 1]),
                    ..cfg
                },
            )
            .unwrap_or_else(|e| panic!("{e}"));
            for (b, o) in o.chunks(256).enumerate() {
                let (b, r) = (b as u32, b as u32 % n);
                let next = (r + 1) % n;
                for t in 0..64 {
                    assert_eq!(o[t as usize], (b - r + next) * 1000 + (t ^ 1));
                    assert_eq!(o[64 + t as usize], next * 100 + t);
                }
                for h in 0..4 {
                    assert_eq!(
                        o[128 + h as usize],
                        n * (0..64).filter(|t| t % 4 == h && t % n == r).count() as u32
                    );
                }
                assert_eq!(
                    o[132..138],
                    [
                        b / n,
                        12 / n,
                        0,
                        n,
                        n - 1,
                        if n > 1 { 0b1101 } else { 0b1111 }
                    ]
                );
            }
        }
    }
    let pair = |c: &Config| Config {
        cluster: Some([2, 1, 1]),
        ..c.clone()
    };
    assert_eq!(failures(NO_END, |c| dsmem(FLAW_END, &pair(c)).err()), ALL);
    assert_eq!(
        failures(NO_START, |c| dsmem(FLAW_START, &pair(c)).err()),
        ALL
    );
    // without the analysis the schedule decides
    let late = |c: &Config| {
        dsmem(
            FLAW_END,
            &Config {
                lifetime: Policy::Ignore,
                ..pair(c)
            },
        )
        .err()
    };
    assert!(failures("after that CTA exited", late) > 0);
    let early = |c: &Config| {
        dsmem(
            FLAW_START,
            &Config {
                lifetime: Policy::Ignore,
                ..pair(c)
            },
        )
        .err()
    };
    assert!(failures("uninitialised", early) > 0);
}

fn push(flaw: u32, cfg: &Config) -> Result<Vec<u32>, SimError> {
    let mut dev = Device::new();
    let o = dev.alloc(8 * 256 * 4);
    dev.launch(
        &Module::load(PTX).unwrap(),
        "push",
        [8, 1, 1],
        [64, 1, 1],
        0,
        &[o.into(), flaw.into()],
        cfg,
    )?;
    Ok(dev.download(o))
}

#[test]
fn asynchronous_pushes() {
    const FLAW_SOURCE: u32 = 1;
    let right = |o: &[u32]| {
        o.chunks(256).enumerate().all(|(b, o)| {
            let prev = (b as u32 + 3) % 4;
            (0..64).all(|t| o[t] == prev * 1000 + t as u32 && o[64 + t] == prev * 10 + t as u32)
                && (0..4).all(|h| {
                    o[128 + h] == 5 + (0..64u32).filter(|t| t % 4 == h as u32).sum::<u32>()
                })
        })
    };
    for cfg in configs() {
        assert!(
            right(&push(0, &cfg).unwrap_or_else(|e| panic!("{cfg:?}: {e}"))),
            "{cfg:?}"
        );
    }
    // the source of a copy is read when it lands
    let lazy = Config {
        proxy: Policy::Ignore,
        ..Default::default()
    };
    assert!(right(
        &push(
            FLAW_SOURCE,
            &Config {
                mode: Mode::Eager,
                ..lazy.clone()
            }
        )
        .unwrap()
    ));
    assert!(!right(&push(FLAW_SOURCE, &lazy).unwrap()));
    assert!(failures("exits while", |c| push(FLAW_END, c).err()) > 0);
}

const HEAD: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

/// A kernel of one warp per CTA; `%r0` rank, `%r1` own buffer, `%r2` mbarrier, `%r3`, `%r4` those of the other CTA of a pair.
fn pair_stats(body: &str, cfg: &Config) -> Result<(Vec<u32>, Stats), SimError> {
    let src = format!(
        "{HEAD}.visible .entry k(.param .u64 q)\n.explicitcluster\n{{\n.reg .pred %p<8>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n.shared .align 128 .b8 sm[1024];\n.shared .align 8 .b8 mb[16];\n\
        ld.param.u64 %rd1, [q];\nmov.u32 %r0, %cluster_ctarank;\nmov.u32 %r1, sm;\nmov.u32 %r2, mb;\nxor.b32 %r5, %r0, 1;\nmapa.shared::cluster.u32 %r3, %r1, %r5;\nmapa.shared::cluster.u32 %r4, %r2, %r5;\n\
        setp.eq.u32 %p0, %r0, 0;\nmov.u32 %r6, %tid.x;\nsetp.eq.u32 %p1, %r6, 0;\nmul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd1, %rd1, %rd2;\n{body}\nret;\n}}\n"
    );
    let m = Module::load(&src).unwrap_or_else(|e| panic!("{e}"));
    let mut dev = Device::new();
    let q = dev.alloc(64);
    let s = dev.launch(&m, "k", [2, 1, 1], [32, 1, 1], 0, &[q.into()], cfg)?;
    Ok((dev.download(q), s))
}

fn pair(body: &str, cfg: &Config) -> Result<Vec<u32>, SimError> {
    Ok(pair_stats(body, cfg)?.0)
}

const SYNC: &str = "barrier.cluster.arrive;\nbarrier.cluster.wait;\n";

#[test]
fn cluster_errors_are_readable() {
    let fails = |body: &str, what: &str| {
        let e = pair(
            body,
            &Config {
                cluster: Some([2, 1, 1]),
                ..Default::default()
            },
        )
        .unwrap_err()
        .to_string();
        assert!(e.contains(what), "{body}: {e}");
    };
    fails(
        &format!("{SYNC}@!%p0 bra E;\n{SYNC}E:\nbarrier.cluster.arrive;\n{SYNC}"),
        "arrive twice",
    );
    fails("barrier.cluster.wait;", "without barrier.cluster.arrive");
    fails(
        &format!("{SYNC}@%p0 ld.shared.u32 %r7, [%r3];\n{SYNC}"),
        "belongs to CTA rank 1; this is CTA rank 0",
    );
    fails(
        &format!(
            "{SYNC}@%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];\n{SYNC}"
        ),
        "no mbarrier was initialised at 0x1000800",
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
    let none = pair(SYNC, &Config::default()).unwrap_err().to_string();
    assert!(none.contains("needs Config::cluster"), "{none}");
    let odd = pair(
        SYNC,
        &Config {
            cluster: Some([4, 1, 1]),
            ..Default::default()
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
            &Config {
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
    let run = |last: &str, c: &Config| {
        pair(
            &body(last),
            &Config {
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
    let warnings = |fence: &str, arrive: &str| {
        pair_stats(
            &body(fence, arrive),
            &Config {
                cluster: Some([2, 1, 1]),
                ..Default::default()
            },
        )
        .unwrap()
        .1
        .warnings
    };
    assert!(warnings("", ".relaxed")[0].contains("initialised without fence.mbarrier_init"));
    assert!(warnings("fence.mbarrier_init.release.cluster;", ".relaxed").is_empty());
    assert!(warnings("", ".release").is_empty() && warnings("", "").is_empty());
}

/// cp.reduce.async.bulk into the shared memory of the other CTA.
#[test]
fn reduction_into_the_peer() {
    let body = format!(
        "@%p1 mbarrier.init.shared::cta.b64 [%r2], 1;\nshl.b32 %r7, %r6, 2;\nadd.u32 %r8, %r1, %r7;\nst.shared.u32 [%r8], %r6;\nst.shared.u32 [%r8+128], 100;\nfence.proxy.async;\n{SYNC}\
        @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 128;\nadd.u32 %r9, %r3, 128;\n\
        @%p1 cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r9], [%r1], 128, [%r4];\n\
        W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;\n@!%p2 bra W;\nld.shared.u32 %r7, [%r1+152];\nst.global.u32 [%rd1], %r7;\n{SYNC}"
    );
    for cfg in configs() {
        assert_eq!(
            pair(
                &body,
                &Config {
                    cluster: Some([2, 1, 1]),
                    ..cfg
                }
            )
            .unwrap_or_else(|e| panic!("{e}"))[..2],
            [106, 106]
        );
    }
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
        let cfg = Config {
            cluster,
            parallel: true,
            ..Default::default()
        };
        dev.launch(
            &Module::load(&src).unwrap(),
            "k",
            [4, 6, 1],
            [1, 1, 1],
            0,
            &[q.into()],
            &cfg,
        )
        .unwrap();
        for (i, o) in dev.download::<u32>(q).chunks(8).enumerate() {
            let (x, y) = (i as u32 % 4, i as u32 / 4);
            assert_eq!(
                o,
                [x % 2 + y % 3 * 2, x % 2, y % 3, x / 2, y / 3, 2, 2, 3],
                "CTA {x} {y}"
            );
        }
    }
}
