//! Counters: known conflicts, bytes, products and waits, the same in every run; and nothing where nobody asks.
use crate::common::{HEAD, block, launch};
use ptxsim::*;

/// `%r0` thread, `%r1` shared memory, `%rd0`, `%rd1` two buffers of 4 KiB, `%rd2` a tensor map of 16 rows of 16 words over
/// the first, whose box is 16 x 4; `%p0` holds in thread 0.
fn source(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 p, .param .u64 q, .param .align 64 .b8 map[128])
{{
.reg .pred %p<8>;
.reg .b32 %r<16>;
.reg .f32 %f<8>;
.reg .b64 %rd<8>;
.shared .align 1024 .b8 sm[8192];
.shared .align 8 .b8 mb[8];
ld.param.u64 %rd0, [p];
ld.param.u64 %rd1, [q];
mov.b64 %rd2, map;
cvta.param.u64 %rd2, %rd2;
mov.u32 %r0, %tid.x;
mov.u32 %r1, sm;
mov.u32 %r2, mb;
setp.eq.u32 %p0, %r0, 0;
mov.f32 %f0, 0f00000000;
mov.f32 %f1, 0f00000000;
mov.f32 %f2, 0f00000000;
mov.f32 %f3, 0f00000000;
{body}
ret;
}}
"
    )
}

/// What `body` does, counted: the first range is the first buffer.
fn stats(body: &str, launched: Launch) -> Stats {
    let mut dev = Device::new();
    let p = dev.upload(&(0..1024).collect::<Vec<u32>>());
    let q = dev.alloc(4096);
    let map = dev
        .tensor_map(TensorMap {
            ty: Ty::B32,
            base: p.address,
            dims: vec![16, 15],
            strides: vec![64],
            box_dims: vec![16, 4],
            swizzle: Swizzle::None,
        })
        .unwrap();
    let range = p.address..p.address + 4096;
    let launched = Launch {
        count: launched.count.map(|_| Vec::from([range])),
        ..launched
    };
    let args = [p.into(), q.into(), map.into()];
    launch(&mut dev, &source(body), &launched, &args).unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn counts_of(body: &str, threads: u32) -> Counts {
    let launched = Launch {
        count: Some(vec![]),
        mode: Mode::Eager,
        ..block(threads)
    };
    stats(body, launched).counts.unwrap()
}

/// Wavefronts and conflicts of one warp.
fn shared(body: &str) -> (u64, u64) {
    let found = counts_of(body, 32).shared;
    (found.wavefronts, found.conflicts)
}

#[test]
fn nobody_asks() {
    assert_eq!(stats("bar.sync 0;", block(32)).counts, None);
}

#[test]
fn bank_conflicts() {
    let store = |stride: u32, width: &str, registers: &str| {
        format!("mad.lo.u32 %r3, %r0, {stride}, %r1;\nst.shared{width}.u32 [%r3], {registers};")
    };
    assert_eq!(shared(&store(4, "", "%r0")), (1, 0));
    assert_eq!(shared(&store(8, "", "%r0")), (2, 1));
    assert_eq!(shared(&store(128, "", "%r0")), (32, 31));
    assert_eq!(shared(&store(132, "", "%r0")), (1, 0));
    assert_eq!(shared(&store(0, "", "%r0")), (1, 0));
    assert_eq!(shared(&store(8, ".v2", "{%r0, %r0}")), (2, 0));
    assert_eq!(shared(&store(16, ".v4", "{%r0, %r0, %r0, %r0}")), (4, 0));
    assert_eq!(shared(&store(128, ".v4", "{%r0, %r0, %r0, %r0}")), (32, 28));
    // Through generic addresses, too; and one lane alone.
    let generic = "mul.wide.u32 %rd3, %r0, 8;\nmov.u64 %rd4, sm;\ncvta.shared.u64 %rd4, %rd4;\nadd.s64 %rd3, %rd3, %rd4;\nst.u32 [%rd3], %r0;";
    assert_eq!(shared(generic), (2, 1));
    assert_eq!(counts_of(generic, 32).instructions[&Pipe::Shared], 1);
    assert_eq!(shared("@%p0 st.shared.u32 [%r1], %r0;"), (1, 0));
}

#[test]
fn matrices() {
    let load = |stride: u32| {
        format!(
            "shl.b32 %r3, %r0, 4;\nadd.u32 %r3, %r3, %r1;\nF: mov.u32 %r4, 0;\nmov.u32 %r5, %r0;\n\
            L: mad.lo.u32 %r6, %r5, 4, %r1;\nst.shared.u32 [%r6], %r4;\nadd.u32 %r5, %r5, 32;\nsetp.lt.u32 %p1, %r5, 2048;\n@%p1 bra L;\n\
            mad.lo.u32 %r3, %r0, {stride}, %r1;\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r7, %r8, %r9, %r10}}, [%r3];"
        )
    };
    let stores = 2048 / 32;
    assert_eq!(shared(&load(16)), (stores + 4, 0));
    assert_eq!(shared(&load(144)), (stores + 4, 0));
    assert_eq!(shared(&load(128)), (stores + 32, 28));
    let stmatrix = "mad.lo.u32 %r3, %r0, 64, %r1;\nstmatrix.sync.aligned.m8n8.x2.shared.b16 [%r3], {%r0, %r0};";
    assert_eq!(shared(stmatrix), (8, 6));
}

#[test]
fn bytes_of_global_memory() {
    let traffic = |body: &str| {
        let counts = counts_of(body, 64);
        [counts.global[0], counts.global[1]]
    };
    let address =
        "mul.wide.u32 %rd3, %r0, 4;\nadd.s64 %rd4, %rd0, %rd3;\nadd.s64 %rd5, %rd1, %rd3;\n";
    let [p, q] = traffic(&format!(
        "{address}ld.global.u32 %r3, [%rd4];\nst.global.u32 [%rd5], %r3;"
    ));
    assert_eq!((p.read, p.sectors_read, p.written), (256, 8, 0));
    assert_eq!((q.read, q.written, q.sectors_written), (0, 256, 8));
    // Every fourth word: all sectors. The same word in all lanes: once a warp.
    let [p, _] = traffic(
        "mul.wide.u32 %rd3, %r0, 16;\nadd.s64 %rd4, %rd0, %rd3;\nld.global.u32 %r3, [%rd4];",
    );
    assert_eq!((p.read, p.sectors_read), (256, 32));
    let [p, _] = traffic("ld.global.u32 %r3, [%rd0];");
    assert_eq!((p.read, p.sectors_read), (8, 2));
    let [_, q] = traffic("@%p0 red.global.add.u32 [%rd1], %r0;");
    assert_eq!((q.read, q.written, q.sectors_written), (0, 4, 1));
}

#[test]
fn copies_of_each_thread() {
    let body = "mul.wide.u32 %rd3, %r0, 16;\nadd.s64 %rd0, %rd0, %rd3;\nshl.b32 %r3, %r0, 4;\nadd.u32 %r1, %r1, %r3;\nmov.u32 %r4, 8;\n\
        cp.async.cg.shared.global [%r1], [%rd0], 16, %r4;\ncp.async.commit_group;\ncp.async.wait_group 0;";
    let counts = counts_of(body, 64);
    assert_eq!((counts.shared.wavefronts, counts.shared.conflicts), (8, 0));
    assert_eq!((counts.shared.written, counts.global[0].read), (1024, 512));
    assert_eq!(
        (counts.instructions[&Pipe::Copy], counts.waits.copies),
        (2, 2)
    );
}

#[test]
fn tiles() {
    // Rows 12 to 15, of which the last is outside.
    let body = "@%p0 mbarrier.init.shared::cta.b64 [%r2], 1;\nbar.sync 0;\nmov.u32 %r5, 0;\nmov.u32 %r6, 12;\n\
        @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;\n\
        @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd2, {%r5, %r6}], [%r2];\n\
        W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0;\n@!%p1 bra W;";
    let counts = counts_of(body, 64);
    assert_eq!(
        (
            counts.bulk_written,
            counts.global[0].read,
            counts.global[0].sectors_read
        ),
        (256, 192, 6)
    );
    let waits = counts.waits;
    assert_eq!(
        (waits.barrier, waits.mbarrier, waits.mbarrier_arrivals),
        (2, 2, 1)
    );
}

#[test]
fn products_and_instructions() {
    let product = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r0, %r0, %r0}, {%r0, %r0}, {%f0, %f1, %f2, %f3};\n";
    let body = format!(
        "{product}{product}ex2.approx.f32 %f4, %f0;\nfma.rn.f32 %f5, %f4, %f4, %f4;\nmax.f32 %f5, %f4, %f5;\n@!%p0 bra E;\nadd.f32 %f5, %f5, %f5;\nE:"
    );
    let counts = counts_of(&body, 64);
    let [(shape, n)] = counts.products.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", counts.products)
    };
    assert_eq!((shape.to_string(), *n), ("mma 16x8x16 bf16".to_string(), 4));
    let of = |pipe| counts.instructions.get(&pipe).copied().unwrap_or(0);
    assert_eq!([Pipe::Tensor, Pipe::Special].map(of), [4, 2]);
    // Of the addition, one warp has a lane that executes it.
    assert_eq!(
        [Pipe::Fma, Pipe::Parameter, Pipe::Global].map(of),
        [3, 4, 0]
    );
}

#[test]
fn the_same_in_every_run() {
    let body = "mov.u32 %r5, 0;\nL: mad.lo.u32 %r3, %r0, 8, %r1;\nst.shared.u32 [%r3], %r0;\nbar.sync 0;\nadd.u32 %r5, %r5, 1;\nsetp.lt.u32 %p1, %r5, 20;\n@%p1 bra L;";
    let launched = Launch {
        count: Some(vec![]),
        ..Launch::new([7, 1, 1], [96, 1, 1])
    };
    let first = stats(body, launched.clone()).counts.unwrap();
    assert_eq!(first.shared.wavefronts, 7 * 3 * 20 * 2);
    assert_eq!(first.waits.barrier, 7 * 3 * 20);
    for _ in 0..3 {
        assert_eq!(stats(body, launched.clone()).counts.as_ref(), Some(&first));
    }
}
