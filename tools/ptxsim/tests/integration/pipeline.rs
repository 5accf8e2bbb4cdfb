//! A small attention-like pipeline as kernels have it, and broken copies of it, each of which must be reported.
//!
//! Warpgroup 0 produces: it loads tiles of A (64 x 64, once) and of B (64 x 64, a ring of two stages) by TMA. Warpgroup
//! 1 consumes: C = A (B0 + B1 + …) on wgmma, goes to shared memory and back to global memory by TMA.
use crate::common::{HEAD, Rng};
use half::bf16;
use ptxsim::*;

const TILES: usize = 5;
const N: usize = 64;
const STAGE: usize = N * N * 2;

/// Lines between tags in comments are what the broken copies change.
fn source() -> String {
    let accumulators: Vec<String> = (0..32).map(|i| format!("%d{i}")).collect();
    let d = accumulators.join(", ");
    let products: String = (0..4)
        .map(|k| {
            format!(
                "add.s64 %rd6, %rd4, {0};\nadd.s64 %rd7, %rd5, {1};\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{{d}}}, %rd6, %rd7, 1, 1, 1, 0, 1;\n",
                k * 2,
                k * 128
            )
        })
        .collect();
    let zeros: String = accumulators
        .iter()
        .map(|r| format!("mov.f32 {r}, 0f00000000;\n"))
        .collect();
    // Row 16 warp + lane / 4 + 8 j, columns 8 i + 2 (lane % 4).
    let stores: String = (0..16)
        .map(|i| {
            let (row, column) = (i % 2 * 8, i / 2 * 8);
            format!(
                "cvt.rn.bf16x2.f32 %r20, %d{1}, %d{0};\nst.shared.b32 [%r9+{2}], %r20;\n",
                2 * i,
                2 * i + 1,
                row * 128 + column * 2
            )
        })
        .collect();
    format!(
        "{HEAD}.extern .shared .align 1024 .b8 sm[];
.visible .entry k(.param .align 64 .b8 ma[128], .param .align 64 .b8 mb[128], .param .align 64 .b8 mc[128])
{{
.reg .pred %p<8>;
.reg .b32 %r<32>;
.reg .b64 %rd<16>;
.reg .f32 %d<32>;
.shared .align 8 .b8 bars[40];
mov.u32 %r0, %tid.x;
mov.u32 %r1, sm;
mov.u32 %r2, bars;
mov.b64 %rd0, ma;
cvta.param.u64 %rd0, %rd0;
mov.b64 %rd1, mb;
cvta.param.u64 %rd1, %rd1;
mov.b64 %rd2, mc;
cvta.param.u64 %rd2, %rd2;
// bars: 0, 8 full; 16, 24 empty; 32 A
setp.ne.u32 %p0, %r0, 0;
@%p0 bra READY;
mbarrier.init.shared::cta.b64 [%r2], 1;
mbarrier.init.shared::cta.b64 [%r2+8], 1;
mbarrier.init.shared::cta.b64 [%r2+16], 4;
mbarrier.init.shared::cta.b64 [%r2+24], 4;
mbarrier.init.shared::cta.b64 [%r2+32], 1;
fence.mbarrier_init.release.cluster;
READY:
bar.sync 0;
mov.u32 %r3, 0;
setp.ge.u32 %p1, %r0, 128;
@%p1 bra CONSUMER;

setmaxnreg.dec.sync.aligned.u32 24;
@%p0 bra END;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2+32], {STAGE};
cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd0, {{0, 0, 0, 0}}], [%r2+32];
PRODUCE:
and.b32 %r4, %r3, 1;
mad.lo.u32 %r5, %r4, 8, %r2;
mad.lo.u32 %r6, %r4, {STAGE}, %r1;
shr.u32 %r7, %r3, 1;
xor.b32 %r7, %r7, 1;
and.b32 %r7, %r7, 1;
EMPTY:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5+16], %r7;
@!%p2 bra EMPTY;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5], {STAGE};
shl.b32 %r8, %r3, 6;
cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6+{STAGE}], [%rd1, {{0, %r8, 0}}], [%r5];
add.u32 %r3, %r3, 1;
setp.lt.u32 %p3, %r3, {TILES};
@%p3 bra PRODUCE;
bra END;

CONSUMER:
setmaxnreg.inc.sync.aligned.u32 240;
{zeros}
// A: K-major; B: as it lies in memory, N contiguous
shr.u32 %r10, %r1, 4;
cvt.u64.u32 %rd3, %r10;
or.b64 %rd4, %rd3, 0x4000004000010000;
WAITA:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2+32], 0;
@!%p2 bra WAITA;
CONSUME:
and.b32 %r4, %r3, 1;
mad.lo.u32 %r5, %r4, 8, %r2;
shr.u32 %r7, %r3, 1;
and.b32 %r7, %r7, 1;
FULL:
mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r5], %r7;
@!%p2 bra FULL;
mad.lo.u32 %r6, %r4, {STAGE}, %r1;
add.u32 %r6, %r6, {STAGE};
shr.u32 %r6, %r6, 4;
cvt.u64.u32 %rd3, %r6;
or.b64 %rd5, %rd3, 0x4000004000010000;
wgmma.fence.sync.aligned;
{products}wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;
and.b32 %r11, %r0, 31;
setp.eq.u32 %p4, %r11, 0;
@%p4 mbarrier.arrive.shared::cta.b64 _, [%r5+16];
add.u32 %r3, %r3, 1;
setp.lt.u32 %p3, %r3, {TILES};
@%p3 bra CONSUME;

// C through the memory of A
bar.sync 1, 128;
and.b32 %r12, %r0, 127;
shr.u32 %r13, %r12, 5;
shr.u32 %r14, %r11, 2;
mad.lo.u32 %r13, %r13, 16, %r14;
mad.lo.u32 %r9, %r13, 128, %r1;
and.b32 %r14, %r11, 3;
mad.lo.u32 %r9, %r14, 4, %r9;
{stores}fence.proxy.async.shared::cta;
bar.sync 1, 128;
setp.ne.u32 %p5, %r12, 0;
@%p5 bra END;
cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd2, {{0, 0}}], [%r1];
cp.async.bulk.commit_group;
cp.async.bulk.wait_group.read 0;
END:
ret;
}}
"
    )
}

/// Runs the kernel in one mode or in every order, and checks C.
fn run(source: &str, mode: Option<Mode>) -> Result<(), Error> {
    let mut rng = Rng(3);
    let mut numbers = |n: usize| -> Vec<bf16> {
        (0..n)
            .map(|_| bf16::from_f32((rng.next() * 4.0).round()))
            .collect()
    };
    let (a, b) = (numbers(N * N), numbers(N * N * TILES));
    let mut dev = Device::new();
    let (pa, pb, pc) = (dev.upload(&a), dev.upload(&b), dev.alloc(STAGE));
    let map = |base: Buffer, rows: usize, rank: usize, swizzle| TensorMap {
        ty: Ty::BF16,
        base: base.address,
        dims: [N as u64, rows as u64, 1, 1][..rank].to_vec(),
        strides: [128, 1 << 20, 1 << 20][..rank - 1].to_vec(),
        box_dims: [64, 64, 1, 1][..rank].to_vec(),
        swizzle,
    };
    let ma = dev.tensor_map(map(pa, N, 4, Swizzle::B128))?;
    let mb = dev.tensor_map(map(pb, N * TILES, 3, Swizzle::B128))?;
    let mc = dev.tensor_map(map(pc, N, 2, Swizzle::None))?;
    let launch = Launch {
        // 128 bytes more than anything uses.
        shared: 3 * STAGE + 128,
        ..Launch::new([1; 3], [256, 1, 1])
    };
    let module = Module::load(source)?;
    let args = [ma.into(), mb.into(), mc.into()];
    let stats = match mode {
        Some(mode) => dev.launch(&module, "k", &Launch { mode, ..launch }, &args)?,
        None => dev.launch_in_all_orders(&module, "k", &launch, &args)?,
    };
    assert_eq!(
        (stats.wgmma, stats.bulk_loads),
        (4 * TILES as u64, 1 + TILES as u64)
    );
    let c: Vec<bf16> = dev.download(pc)?;
    for (i, c) in c.iter().enumerate() {
        let (row, column) = (i / N, i % N);
        let rows = (0..N * TILES).map(|k| a[row * N + k % N].to_f32() * b[k * N + column].to_f32());
        assert_eq!(*c, bf16::from_f32(rows.sum()), "row {row} column {column}");
    }
    Ok(())
}

/// Replaces the only occurrence.
fn change(from: &str, to: &str) -> String {
    let source = source();
    assert_eq!(source.matches(from).count(), 1, "{from}");
    source.replace(from, to)
}

/// The kernel with a change fails with a message that has these words, at a line that has these.
fn fails(from: &str, to: &str, message: &str, line: &str) {
    reports(&change(from, to), None, message, line);
}

fn reports(source: &str, mode: Option<Mode>, message: &str, line: &str) {
    let error = run(source, mode).expect_err(message);
    assert!(error.message.contains(message), "{error}");
    assert!(error.text.contains(line), "{error}");
    assert_eq!(
        source.lines().nth(error.line as usize - 1),
        Some(error.text.as_str())
    );
}

const WAIT: &str = "wgmma.wait_group.sync.aligned 0;\n";

#[test]
fn right_as_it_is() {
    run(&source(), None).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn reads_a_tile_that_is_still_loading() {
    fails("@!%p2 bra FULL;", "", "in flight", "wgmma.mma_async");
    fails("@!%p2 bra WAITA;", "", "in flight", "wgmma.mma_async");
}

#[test]
fn reuses_a_stage_too_early() {
    // The producer runs ahead of the barriers themselves,
    fails("@!%p2 bra EMPTY;", "", "more than 1 arrivals", "expect_tx");
    // or is let in before the products are over.
    let release = "@%p4 mbarrier.arrive.shared::cta.b64 _, [%r5+16];\n";
    let late = format!("{release}{WAIT}");
    let source = change(WAIT, "").replace(release, &late);
    reports(
        &source,
        None,
        "may still read it",
        "cp.async.bulk.tensor.3d",
    );
    fails(WAIT, "", "may still read it", "cp.async.bulk.tensor.3d");
    // One warp alone lets it in, some time before its own part of the products is over.
    let early = release.replace("%p4", "%p6");
    let delay = "shr.u32 %r15, %r0, 5;\nsetp.ne.u32 %p7, %r15, 7;\n@%p7 bra ON;\nmov.u32 %r15, 9999;\nDELAY:\n\
                 sub.u32 %r15, %r15, 1;\nsetp.ne.u32 %p7, %r15, 0;\n@%p7 bra DELAY;\nON:\n";
    let source = change(
        WAIT,
        &format!("setp.eq.u32 %p6, %r0, 224;\n{early}{delay}{WAIT}"),
    );
    let next = format!("add.u32 %r3, %r3, 1;\nsetp.lt.u32 %p3, %r3, {TILES};\n@%p3 bra CONSUME;");
    assert_eq!(source.matches(&next).count(), 1);
    let source = source
        .replace(
            "setp.eq.u32 %p4, %r11, 0;\n",
            "setp.eq.u32 %p4, %r11, 0;\n@%p6 bra NEXT;\n",
        )
        .replace(&next, &format!("NEXT:\n{next}"));
    let line = "cp.async.bulk.tensor.3d";
    reports(&source, None, "may still read it", line);
}

#[test]
fn expects_the_wrong_number_of_bytes() {
    for bytes in [STAGE - 16, STAGE + 16] {
        let from = format!("_, [%r5], {STAGE};");
        fails(
            &from,
            &format!("_, [%r5], {bytes};"),
            "deadlock",
            "mbarrier.try_wait",
        );
    }
}

#[test]
fn waits_for_the_other_parity() {
    let wait = "FULL:\nmbarrier.try_wait";
    let swapped = change(wait, &format!("xor.b32 %r7, %r7, 1;\n{wait}"));
    reports(&swapped, Some(Mode::Eager), "deadlock", "mbarrier.try_wait");
    reports(&swapped, Some(Mode::Lazy), "in flight", "wgmma.mma_async");
    fails(
        "xor.b32 %r7, %r7, 1;\n",
        "",
        "deadlock",
        "mbarrier.try_wait",
    );
}

#[test]
fn uses_accumulators_too_early() {
    let early = format!("add.f32 %d0, %d0, %d1;\n{WAIT}");
    fails(
        WAIT,
        &early,
        "belongs to a wgmma that was not waited for",
        "add.f32",
    );
}

#[test]
fn forgets_fences() {
    fails(
        "wgmma.fence.sync.aligned;\n",
        "",
        "no wgmma.fence",
        "wgmma.mma_async",
    );
    fails(
        "fence.proxy.async.shared::cta;\n",
        "",
        "no fence.proxy.async",
        "cp.async.bulk.tensor.2d",
    );
}

#[test]
fn overwrites_what_a_wgmma_reads() {
    let early = format!("st.shared.b32 [%r1], %r3;\n{WAIT}");
    fails(
        WAIT,
        &early,
        "may still read it",
        "st.shared.b32 [%r1], %r3;",
    );
}

#[test]
fn overwrites_what_a_store_reads() {
    let wait = "cp.async.bulk.wait_group.read 0;\n";
    let early = format!("st.shared.u32 [%r1], 0;\n{wait}");
    fails(wait, &early, "may still read it", "st.shared.u32 [%r1], 0;");
    fails(wait, "", "exits without waiting", "cp.async.bulk.tensor.2d");
}

#[test]
fn leaves_shared_memory() {
    let row = "mad.lo.u32 %r9, %r13, 128, %r1;";
    fails(
        row,
        "mad.lo.u32 %r9, %r13, 512, %r1;",
        "out of bounds",
        "st.shared.b32",
    );
    let coordinate = "shl.b32 %r8, %r3, 6;";
    let beyond = format!("{coordinate}\nadd.u32 %r6, %r6, {};", 2 * STAGE);
    fails(
        coordinate,
        &beyond,
        "out of bounds",
        "cp.async.bulk.tensor.3d",
    );
    let descriptor = "or.b64 %rd5, %rd3, 0x4000004000010000;";
    let stride = "or.b64 %rd5, %rd3, 0x4000080000010000;";
    fails(descriptor, stride, "out of bounds", "wgmma.mma_async");
}

#[test]
fn reads_what_nothing_wrote() {
    let before = "bar.sync 1, 128;\nand.b32 %r12";
    let beyond = format!("ld.shared.b32 %r12, [%r1+{}];\n{before}", 3 * STAGE);
    fails(before, &beyond, "uninitialised", "ld.shared.b32");
    let barrier = format!("ld.shared.b32 %r12, [%r2];\n{before}");
    fails(before, &barrier, "reads the mbarrier", "ld.shared.b32");
}

#[test]
fn stays_at_a_barrier() {
    fails(
        "bar.sync 1, 128;\nsetp.ne",
        "bar.sync 1, 256;\nsetp.ne",
        "deadlock",
        "bar.sync 1, 256",
    );
    let before = "bar.sync 1, 128;\nand.b32 %r12";
    let skip = format!("setp.ge.u32 %p6, %r0, 224;\n@%p6 bra END;\n{before}");
    fails(before, &skip, "deadlock", "bar.sync 1, 128");
}

#[test]
fn disagrees_within_a_warpgroup() {
    let fence = "wgmma.fence.sync.aligned;\n";
    let other = format!("setp.ge.u32 %p6, %r0, 160;\n@%p6 add.s64 %rd5, %rd5, 2;\n{fence}");
    fails(fence, &other, "disagree", "wgmma.mma_async");
    let registers = "setmaxnreg.inc.sync.aligned.u32 240;";
    let many = "setmaxnreg.inc.sync.aligned.u32 256;\nsetmaxnreg.inc.sync.aligned.u32 500;";
    fails(registers, many, "from 24 to 256", "setmaxnreg");
}

#[test]
fn races() {
    // Lane 0 of each warp writes to the same word,
    let before = "bar.sync 1, 128;\nand.b32 %r12";
    let race = format!("@%p4 st.shared.u32 [%r1+{}], %r0;\n{before}", 3 * STAGE);
    fails(
        before,
        &race,
        "race: writes shared memory",
        "@%p4 st.shared.u32",
    );
    // or C is stored before all warps have written it.
    let late = "bar.sync 1, 128;\nsetp.ne";
    fails(
        late,
        "setp.ne",
        "race: reads shared memory",
        "cp.async.bulk.tensor.2d.global",
    );
}
