//! Address spaces, loads and stores, atomics, and the reports of wrong accesses.
use crate::common::{HEAD, block, launch, per_lane};
use half::bf16;
use ptxsim::*;

fn inputs(threads: u32) -> Vec<[u32; 3]> {
    (0..threads).map(|t| [t * 0x0101_0101, t, !t]).collect()
}

fn run(body: &str, threads: u32) -> Result<Vec<[u32; 2]>, Error> {
    per_lane(
        &format!("mov.u32 %d, 0;\nmov.u32 %e, 0;\n{body}"),
        &inputs(threads),
    )
}

fn results(body: &str) -> Vec<[u32; 2]> {
    run(body, 64).unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn error(body: &str) -> Error {
    run(body, 64).expect_err(body)
}

#[test]
fn shared_memory() {
    let body = ".shared .align 16 .b8 sm[512];\nmov.u32 %r1, sm;\nmad.lo.u32 %r2, %t, 4, %r1;\nst.shared.u32 [%r2], %c;\nbar.sync 0;\n\
        xor.b32 %r3, %t, 33;\nmad.lo.u32 %r4, %r3, 4, %r1;\nld.shared.u32 %d, [%r4];\nmov.u64 %rd1, sm;\ncvta.shared.u64 %rd2, %rd1;\n\
        mad.wide.u32 %rd3, %r3, 4, %rd2;\nld.u32 %e, [%rd3];\ncvta.to.shared.u64 %rd4, %rd3;\ncvt.u32.u64 %r5, %rd4;\nsub.u32 %r5, %r5, %r4;\nadd.u32 %e, %e, %r5;";
    for (t, r) in results(body).iter().enumerate() {
        assert_eq!(*r, [!(t as u32 ^ 33); 2]);
    }
}

#[test]
fn shared_memory_ends_with_the_device() {
    let source = format!("{HEAD}.visible .entry k()\n{{\nret;\n}}\n");
    let module = Module::load(&source).unwrap();
    let launch = |device: &mut Device, kibibytes: usize| {
        let launch = Launch {
            shared: kibibytes << 10,
            ..block(32)
        };
        device.launch(&module, "k", &launch, &[]).map(drop)
    };
    let mut ada = Device::with_shared_memory(99 << 10);
    launch(&mut ada, 99).unwrap();
    let error = launch(&mut ada, 100).unwrap_err().to_string();
    assert!(error.contains("a CTA has 101376"), "{error}");
    launch(&mut Device::new(), 227).unwrap();
}

#[test]
fn instructions_end_with_the_target() {
    let source = |target: &str| {
        format!(
            ".version 8.0\n.target {target}\n.visible .entry k()\n{{\nwgmma.fence.sync.aligned;\nret;\n}}\n"
        )
    };
    assert!(Module::load(&source("sm_90a")).unwrap().runs_on(90));
    assert!(!Module::load(&source("sm_90a")).unwrap().runs_on(100));
    let error = Module::load(&source("sm_80")).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("only sm_90a has it, not sm_80"),
        "{error}"
    );
}

#[test]
fn local_and_constant_memory() {
    let body = ".local .align 8 .b8 loc[16];\nmov.u64 %rd1, loc;\ncvta.local.u64 %rd2, %rd1;\nst.local.u32 [%rd1], %a;\nst.u16 [%rd2+4], %b;\nld.local.u32 %d, [%rd1];\nld.u16 %e, [%rd2+4];";
    for (t, r) in results(body).iter().enumerate() {
        assert_eq!(*r, [t as u32 * 0x0101_0101, t as u32]);
    }
    let source = format!(
        "{HEAD}.const .align 4 .b32 table[4] = {{10, 0x20, -1, 0f3F800000}};\n.global .align 4 .u32 counter = 5;\n.visible .entry k(.param .u64 out)\n{{\n.reg .b32 %r<8>;\n.reg .b64 %rd<8>;\n\
        ld.param.u64 %rd1, [out];\nmov.u32 %r1, %tid.x;\nmov.u64 %rd2, table;\nmad.wide.u32 %rd3, %r1, 4, %rd2;\nld.const.u32 %r2, [%rd3];\natom.global.add.u32 %r3, [counter], 1;\n\
        mad.wide.u32 %rd4, %r1, 8, %rd1;\nst.global.v2.u32 [%rd4], {{%r2, %r3}};\nret;\n}}\n"
    );
    let mut dev = Device::new();
    let out = dev.alloc(32);
    // The module's variables start anew with every launch.
    for _ in 0..2 {
        launch(&mut dev, &source, &block(4), &[out.into()]).unwrap();
        assert_eq!(
            dev.download::<u32>(out).unwrap(),
            [10, 5, 0x20, 6, u32::MAX, 7, 0x3f80_0000, 8]
        );
    }
}

#[test]
fn parameters() {
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 out, .param .u32 a, .param .align 4 .b8 b[12], .param .f32 c)\n{{\n.reg .b32 %r<8>;\n.reg .f32 %f<2>;\n.reg .b64 %rd<4>;\n\
        ld.param.u64 %rd1, [out];\nld.param.u32 %r1, [a];\nld.param.v2.u32 {{%r2, %r3}}, [b];\nld.param.u8 %r4, [b+8];\nld.param.f32 %f1, [c];\n\
        st.global.v4.u32 [%rd1], {{%r1, %r2, %r3, %r4}};\nst.global.f32 [%rd1+16], %f1;\nret;\n}}\n"
    );
    let mut dev = Device::new();
    let out = dev.alloc(20);
    let bytes: Vec<u8> = (1..13).collect();
    let args = [out.into(), 7u32.into(), bytes.into(), 2.5f32.into()];
    // b starts at 12, where a pair of words would be misaligned.
    let error = launch(&mut dev, &source, &block(1), &args).unwrap_err();
    assert!(error.message.contains("misaligned"), "{error}");
    let source = source.replace(
        "ld.param.v2.u32 {%r2, %r3}, [b];",
        "ld.param.u32 %r2, [b];\nld.param.u32 %r3, [b+4];",
    );
    launch(&mut dev, &source, &block(1), &args).unwrap();
    assert_eq!(
        dev.download::<u32>(out).unwrap(),
        [7, 0x0403_0201, 0x0807_0605, 9, 2.5f32.to_bits()]
    );
    let error = launch(&mut dev, &source, &block(1), &args[..3]).unwrap_err();
    assert!(
        error.message.contains("3 arguments for 4 parameters"),
        "{error}"
    );
}

#[test]
fn narrow_and_vector_accesses() {
    let store = "mov.b32 %r1, -2;\nst.global.u8 [%at+1], %r1;\n";
    let at = "mad.wide.u32 %at, %t, 12, %in;\n";
    assert!(
        results(&format!(
            "{at}{store}ld.global.s8 %d, [%at+1];\nld.global.u8 %e, [%at+1];"
        ))
        .iter()
        .all(|r| *r == [!1, 0xfe])
    );
    for (t, r) in results(&format!("{at}ld.global.s16 %r1, [%at+8];\nmov.b32 %d, %r1;\nld.global.nc.u16 %h1, [%at+8];\ncvt.u32.u16 %e, %h1;")).iter().enumerate() {
        assert_eq!(*r, [!(t as u32), !(t as u32) & 0xffff]);
    }
    for (t, r) in results(&format!("{at}ld.global.u32 %rd1, [%at+8];\nld.global.s32 %rd2, [%at+8];\nadd.s64 %rd3, %rd1, %rd2;\nmov.b64 {{%d, %e}}, %rd3;")).iter().enumerate() {
        let x = !(t as u32);
        let sum = (x as u64).wrapping_add(x as i32 as i64 as u64);
        assert_eq!(*r, [sum as u32, (sum >> 32) as u32]);
    }
    let vector = ".shared .align 16 .b8 sm[1024];\nmov.u32 %r1, sm;\nmad.lo.u32 %r1, %t, 16, %r1;\ncvt.u16.u32 %h1, %t;\nst.shared.v4.u16 [%r1+8], {%h1, %h1, %h1, %h1};\nst.shared.v2.f32 [%r1], {%fa, %fb};\nld.shared.v4.u32 {%r2, %r3, %d, %e}, [%r1];\nadd.u32 %d, %d, %r3;";
    for (t, r) in results(vector).iter().enumerate() {
        let t = t as u32;
        assert_eq!(*r, [t * 0x1_0001 + t, t * 0x1_0001]);
    }
}

#[test]
fn atomics() {
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 p)\n{{\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n.shared .align 8 .b8 sm[8];\nld.param.u64 %rd0, [p];\nmov.u32 %r0, %tid.x;\n\
        atom.global.add.u32 %r1, [%rd0], 1;\nred.relaxed.gpu.global.add.f32 [%rd0+4], 0f3F000000;\nred.global.max.s32 [%rd0+8], %r0;\nred.global.add.noftz.bf16x2 [%rd0+12], 0x3f803f80;\n\
        atom.global.cas.b32 %r2, [%rd0+16], 0, 42;\natom.exch.b32 %r3, [%rd0+20], 9;\nred.global.inc.u32 [%rd0+24], 99;\nred.global.min.u32 [%rd0+28], %r0;\nred.global.or.b32 [%rd0+32], %r0;\nred.global.add.u64 [%rd0+40], 0x100000001;\nret;\n}}\n"
    );
    for parallel in [false, true] {
        let mut dev = Device::new();
        let buffer = dev.upload(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0u32]);
        let grid = Launch {
            parallel,
            ..Launch::new([4, 2, 1], [16, 1, 1])
        };
        launch(&mut dev, &source, &grid, &[buffer.into()]).unwrap();
        let bf16s = bf16::from_f32(128.0).to_bits() as u32 * 0x1_0001;
        let expected = [
            128,
            64f32.to_bits(),
            15,
            bf16s,
            42,
            9,
            28,
            0,
            15,
            0,
            128,
            128,
        ];
        assert_eq!(dev.download::<u32>(buffer).unwrap(), expected);
    }
}

#[test]
fn wrong_accesses() {
    let check = |body: &str, message: &str| {
        let error = error(body);
        assert!(error.message.contains(message), "{body}: {error}");
        let body = body.lines().last().unwrap();
        assert_eq!(error.text, body, "{error}");
        assert!(error.place.is_some());
    };
    check(
        "mad.wide.u32 %rd1, %t, 16, %out;\nst.global.u32 [%rd1], 1;",
        "out of bounds: the buffer below has 512 bytes",
    );
    check("ld.global.u32 %d, [%in+2];", "misaligned");
    check(
        "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%in+8];",
        "misaligned",
    );
    check(
        "mov.u64 %rd1, 64;\nld.global.u32 %d, [%rd1];",
        "no buffer lies below",
    );
    check(
        ".shared .align 4 .b8 sm[64];\nld.shared.u32 %d, [sm+4];",
        "uninitialised",
    );
    check(
        ".shared .align 4 .b8 sm[64];\nst.shared.u32 [sm+64], 0;",
        "out of bounds: it is 0x400..0x440",
    );
    check(
        ".local .align 4 .b8 loc[8];\nst.local.u32 [loc+8], 0;",
        "out of bounds",
    );
    check("trap;", "trap");
    let at = error("setp.eq.u32 %p1, %t, 37;\n@%p1 trap;");
    let place = Place {
        cta: [0; 3],
        thread: 37,
    };
    assert_eq!(at.place, Some(place));
    assert!(
        at.to_string()
            .contains("line 25: `@%p1 trap;`: CTA [0, 0, 0], thread 37 (warp 1, lane 5): trap"),
        "{at}"
    );
}

#[test]
fn tolerated_breaches_are_warnings() {
    let source = format!(
        "{HEAD}.visible .entry k()\n{{\n.reg .b32 %r<4>;\n.shared .align 4 .b8 sm[64];\nld.shared.u32 %r1, [sm];\nret;\n}}\n"
    );
    let tolerant = Launch {
        tolerate: vec![Check::Uninitialised],
        ..block(64)
    };
    let stats = launch(&mut Device::new(), &source, &tolerant, &[]).unwrap();
    assert_eq!(
        stats.warnings,
        ["line 8: reads shared memory at 0x400, which is uninitialised"]
    );
}

#[test]
fn barriers() {
    let deadlock = error(
        "setp.eq.u32 %p1, %t, 40;\n@%p1 bra X;\nbarrier.sync 1, 64;\nX:\nbarrier.sync 2, 64;",
    );
    assert!(
        deadlock
            .message
            .contains("at barrier 1: 63 of 64 threads arrived"),
        "{deadlock}"
    );
    let divergent =
        error("setp.eq.u32 %p1, %t, 40;\n@%p1 bra X;\nbar.sync 1, 64;\nX:\nbar.sync 2, 64;");
    assert!(
        divergent
            .message
            .contains("needs lanes ffffffff to come together"),
        "{divergent}"
    );
    let counts = error("setp.lt.u32 %p1, %t, 32;\n@%p1 bar.sync 1, 64;\n@!%p1 bar.sync 1, 32;");
    assert!(
        counts
            .message
            .contains("barrier 1 is for 32 threads here and for 64"),
        "{counts}"
    );
    let order = "setp.lt.u32 %p1, %t, 32;\n.shared .align 4 .b8 sm[4];\n@%p1 st.shared.u32 [sm], 5;\n@%p1 bar.arrive 3, 64;\n@%p1 bra OUT;\nbar.sync 3, 64;\nld.shared.u32 %d, [sm];\nOUT:";
    assert!(results(order)[32..].iter().all(|r| r[0] == 5));
}

/// Two warps exchange words through shared memory; without a barrier on either side, whatever the order.
#[test]
fn races() {
    let source = |before: &str, after: &str| {
        format!(
            "{HEAD}.visible .entry k(.param .u64 out)
{{
.reg .b32 %r<8>;
.reg .b64 %rd<4>;
.shared .align 4 .b8 sm[256];
ld.param.u64 %rd1, [out];
mov.u32 %r1, %tid.x;
mov.u32 %r2, sm;
mad.lo.u32 %r3, %r1, 4, %r2;
st.shared.u32 [%r3], %r1;
{before}
xor.b32 %r4, %r1, 32;
mad.lo.u32 %r4, %r4, 4, %r2;
ld.shared.u32 %r5, [%r4];
{after}
st.shared.u32 [%r3], 99;
atom.shared.add.u32 %r6, [sm+128], 0;
mad.wide.u32 %rd2, %r1, 4, %rd1;
st.global.u32 [%rd2], %r5;
ret;
}}
"
        )
    };
    let run = |before: &str, after: &str, schedule| {
        let looking = Launch {
            races: true,
            schedule,
            tolerate: vec![Check::Uninitialised],
            ..block(64)
        };
        let mut dev = Device::new();
        let out = dev.alloc(256);
        launch(&mut dev, &source(before, after), &looking, &[out.into()])
    };
    for schedule in [
        Schedule::RoundRobin,
        Schedule::LowFirst,
        Schedule::HighFirst,
        Schedule::Random(1),
    ] {
        run("bar.sync 0;", "bar.sync 0;", schedule).unwrap_or_else(|e| panic!("{e}"));
        for (before, after) in [
            ("", "bar.sync 0;"),
            ("bar.sync 0;", ""),
            ("bar.warp.sync -1;", ""),
        ] {
            let error = run(before, after, schedule).expect_err(before);
            assert!(error.message.contains("race: "), "{error}");
            assert!(error.text.contains(".shared.u32"), "{error}");
        }
    }
}

/// In global memory a race shows by what is left there; the report names who wrote it.
#[test]
fn races_in_global_memory() {
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 out)\n{{\n.reg .b32 %r<2>;\n.reg .b64 %rd<2>;\nld.param.u64 %rd1, [out];\nmov.u32 %r1, %warpid;\nst.global.u32 [%rd1+8], %r1;\nret;\n}}\n"
    );
    let mut dev = Device::new();
    let out = dev.alloc(16);
    let module = Module::load(&source).unwrap();
    let error = dev
        .launch_in_all_orders(&module, "k", &block(64), &[out.into()])
        .unwrap_err();
    let place = format!("race: the byte written to 0x{:x} differs", out.address + 8);
    assert!(error.message.contains(&place), "{error}");
    assert_eq!(error.text, "st.global.u32 [%rd1+8], %r1;");
}

/// A warp of 8 threads counts as a whole one.
#[test]
fn barriers_of_partial_warps() {
    let body = "bar.sync 1, 64;\nmov.u32 %d, 1;";
    assert!(run(body, 40).unwrap().iter().all(|r| r[0] == 1));
}

#[test]
fn endless_loops() {
    let source = format!("{HEAD}.visible .entry k()\n{{\nL: bra L;\n}}\n");
    let short = Launch {
        max_warp_instructions: 10_000,
        ..block(32)
    };
    let error = launch(&mut Device::new(), &source, &short, &[]).unwrap_err();
    assert!(error.message.contains("endless loop"), "{error}");
}

#[test]
fn special_registers() {
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 out)\n{{\n.reg .b32 %r<16>;\n.reg .b64 %rd<4>;\nld.param.u64 %rd1, [out];\nmov.u32 %r1, %ctaid.y;\nmov.u32 %r2, %nctaid.x;\nmov.u32 %r3, %ctaid.x;\nmad.lo.u32 %r4, %r1, %r2, %r3;\n\
        mov.u32 %r5, %tid.z;\nmov.u32 %r6, %ntid.y;\nmov.u32 %r7, %tid.y;\nmad.lo.u32 %r5, %r5, %r6, %r7;\nmov.u32 %r6, %ntid.x;\nmov.u32 %r7, %tid.x;\nmad.lo.u32 %r5, %r5, %r6, %r7;\n\
        mad.lo.u32 %r8, %r4, 40, %r5;\nmul.wide.u32 %rd2, %r8, 16;\nadd.s64 %rd2, %rd2, %rd1;\nmov.u32 %r9, %laneid;\nmov.u32 %r10, %warpid;\nmov.u32 %r11, %lanemask_lt;\nmov.u32 %r12, %nwarpid;\nst.global.v4.u32 [%rd2], {{%r9, %r10, %r11, %r12}};\nret;\n}}\n"
    );
    let mut dev = Device::new();
    let out = dev.alloc(6 * 40 * 16);
    launch(
        &mut dev,
        &source,
        &Launch::new([3, 2, 1], [5, 4, 2]),
        &[out.into()],
    )
    .unwrap();
    for (i, r) in dev.download::<u32>(out).unwrap().chunks(4).enumerate() {
        let (lane, warp) = (i as u32 % 40 % 32, i as u32 % 40 / 32);
        assert_eq!(r, [lane, warp, (1 << lane) - 1, 2]);
    }
}
