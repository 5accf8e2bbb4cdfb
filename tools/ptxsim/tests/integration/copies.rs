//! Asynchronous copies: cp.async, bulk copies, tensor copies of every rank, reductions.
use crate::common::{HEAD, block, every_order, launch};
use half::bf16;
use ptxsim::*;

/// `%r0` thread, `%r1` 1 KiB of shared memory, `%r2` an mbarrier, `%r3` the thread's word, `%rd0`, `%rd1` two buffers,
/// `%rd2` a tensor map; `%p0` holds in thread 0.
fn source(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 p, .param .u64 q, .param .align 64 .b8 map[128])
{{
.reg .pred %p<8>;
.reg .b32 %r<16>;
.reg .b64 %rd<8>;
.shared .align 1024 .b8 sm[1024];
.shared .align 8 .b8 mb[8];
ld.param.u64 %rd0, [p];
ld.param.u64 %rd1, [q];
mov.b64 %rd2, map;
cvta.param.u64 %rd2, %rd2;
mov.u32 %r0, %tid.x;
mov.u32 %r1, sm;
mov.u32 %r2, mb;
shl.b32 %r4, %r0, 2;
add.u32 %r3, %r1, %r4;
setp.eq.u32 %p0, %r0, 0;
{body}
ret;
}}
"
    )
}

/// Words 0, 1, 2, … in, the words of the other buffer out.
fn run(body: &str, launched: &Launch) -> Result<Vec<u32>, Error> {
    let mut dev = Device::new();
    let (p, q) = (dev.upload(&(0..256).collect::<Vec<u32>>()), dev.alloc(1024));
    let map = TensorMap {
        ty: Ty::B32,
        base: p.address,
        dims: vec![16, 16],
        strides: vec![64],
        box_dims: vec![16, 4],
        swizzle: Swizzle::None,
    };
    let map = dev.tensor_map(map)?;
    launch(
        &mut dev,
        &source(body),
        launched,
        &[p.into(), q.into(), map.into()],
    )?;
    dev.download(q)
}

/// The same in every order.
fn results(body: &str) -> Vec<u32> {
    let orders = every_order(&block(64));
    let mut all = orders
        .iter()
        .map(|order| run(body, order).unwrap_or_else(|e| panic!("{order:?}: {e}")));
    let first = all.next().unwrap();
    assert!(all.all(|other| other == first));
    first
}

fn lazy_error(body: &str) -> Error {
    run(body, &block(64)).expect_err(body)
}

const OUT: &str = "add.s64 %rd1, %rd1, %rd3;\nst.global.u32 [%rd1], %r6;";
const INIT: &str = "@%p0 mbarrier.init.shared::cta.b64 [%r2], 1;\nbar.sync 0;\n";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0;\n@!%p1 bra W;\n";

#[test]
fn copies_by_each_thread() {
    let body = |wait: &str, more: &str| {
        format!(
            "mul.wide.u32 %rd3, %r0, 16;\nadd.s64 %rd0, %rd0, %rd3;\nshl.b32 %r2, %r0, 4;\nadd.u32 %r1, %r1, %r2;\ncp.async.cg.shared.global [%r1], [%rd0], 16{more};\ncp.async.commit_group;\n{wait}\nbar.sync 0;\n\
            xor.b32 %r2, %r1, 16;\nld.shared.v4.u32 {{%r3, %r4, %r5, %r6}}, [%r2];\nadd.s64 %rd1, %rd1, %rd3;\nst.global.v4.u32 [%rd1], {{%r3, %r4, %r5, %r6}};"
        )
    };
    let expected = |zero: fn(u32) -> bool| -> Vec<u32> {
        (0..256).map(|i| if zero(i) { 0 } else { i ^ 4 }).collect()
    };
    assert_eq!(
        results(&body("cp.async.wait_group 0;", "")),
        expected(|_| false)
    );
    assert_eq!(
        results(&body("cp.async.wait_all;", ", 12")),
        expected(|i| i % 4 == 3)
    );
    assert_eq!(
        results(&body("cp.async.wait_all;", ", 0")),
        expected(|_| true)
    );
    let error = lazy_error(&body("cp.async.wait_group 1;", ""));
    assert!(
        error.message.contains("in flight") && error.text.starts_with("ld.shared"),
        "{error}"
    );
    let error = lazy_error(&body("st.shared.u32 [%r1], 0;\ncp.async.wait_group 0;", ""));
    assert!(
        error.message.contains("in flight") && error.text.starts_with("st.shared"),
        "{error}"
    );
}

#[test]
fn copies_by_each_thread_on_an_mbarrier() {
    let body = format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r2], 64;\nbar.sync 0;\nmul.wide.u32 %rd3, %r0, 4;\nadd.s64 %rd0, %rd0, %rd3;\ncp.async.ca.shared.global [%r3], [%rd0], 4;\n\
        cp.async.mbarrier.arrive.noinc.shared.b64 [%r2];\n{WAIT}xor.b32 %r5, %r4, 64;\nadd.u32 %r5, %r5, %r1;\nld.shared.u32 %r6, [%r5];\n{OUT}"
    );
    assert!(
        results(&body)[..64]
            .iter()
            .enumerate()
            .all(|(i, v)| *v == i as u32 ^ 16)
    );
    // A try_wait may time out: its result has to be looked at.
    let error = lazy_error(&body.replace("@!%p1 bra W;", ""));
    assert!(error.message.contains("in flight"), "{error}");
}

#[test]
fn bulk_loads() {
    let load = |bytes: u32, expected: u32| {
        format!(
            "{INIT}@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], {expected};\n@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0], {bytes}, [%r2];\n\
            {WAIT}ld.shared.u32 %r6, [%r3];\nmul.wide.u32 %rd3, %r0, 4;\n{OUT}"
        )
    };
    assert!(results(&load(256, 256))[..64].iter().copied().eq(0..64));
    let good = load(256, 256);
    let tile = good
        .replace("bulk.shared", "bulk.tensor.2d.shared")
        .replace("[%rd0], 256", "[%rd2, {0, 0}]");
    assert!(results(&tile)[..64].iter().copied().eq(0..64));
    for (body, message) in [
        (load(256, 240), "0 of 1 arrivals and -16 bytes are missing"),
        (load(256, 272), "0 of 1 arrivals and 16 bytes are missing"),
        (load(240, 240), "uninitialised"),
        (load(200, 200), "not all multiples of 16"),
        (load(2048, 2048), "out of bounds"),
        (good.replace("@!%p1 bra W;", ""), "in flight"),
        (
            good.replace("[%r2], 1;", "[%r2], 2;"),
            "1 of 2 arrivals and 0 bytes are missing",
        ),
        (
            good.replace("@%p0 mbarrier.init", "@%p1 mbarrier.init"),
            "no mbarrier is initialised",
        ),
    ] {
        let error = lazy_error(&body);
        assert!(error.message.contains(message), "{body}: {error}");
    }
}

#[test]
fn mbarriers_count() {
    let phases = "@%p0 mbarrier.init.shared::cta.b64 [%r2], 64;\nbar.sync 0;\nmov.u32 %r5, 0;\nmov.u32 %r6, 0;\nLOOP:\nmbarrier.arrive.shared::cta.b64 %rd4, [%r2];\n\
        W: mbarrier.try_wait.shared::cta.b64 %p1, [%r2], %rd4;\n@!%p1 bra W;\nand.b32 %r7, %r5, 1;\nV: mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r2], %r7;\n@!%p2 bra V;\n\
        add.u32 %r6, %r6, %r0;\nadd.u32 %r5, %r5, 1;\nsetp.lt.u32 %p3, %r5, 7;\nbar.sync 0;\n@%p3 bra LOOP;\nmul.wide.u32 %rd3, %r0, 4;\n";
    assert!(
        results(&format!("{phases}{OUT}"))[..64]
            .iter()
            .copied()
            .eq((0..64).map(|t| 7 * t))
    );
    let twice = lazy_error(
        "@%p0 mbarrier.init.shared::cta.b64 [%r2], 1;\n@%p0 mbarrier.init.shared::cta.b64 [%r2], 1;",
    );
    assert!(twice.message.contains("initialised already"), "{twice}");
    let spins = lazy_error(&format!(
        "{INIT}V: mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r2], 0;\n@!%p1 bra V;"
    ));
    assert!(
        spins.message.contains("all threads that are left spin"),
        "{spins}"
    );
    let expect = "@%p0 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r2], 16;\n@%p0 mbarrier.arrive.shared::cta.b64 _, [%r2];\n";
    let missing = lazy_error(&format!("{INIT}{expect}{WAIT}"));
    assert!(
        missing
            .message
            .contains("0 of 1 arrivals and 16 bytes are missing"),
        "{missing}"
    );
    let over = lazy_error(&format!(
        "{INIT}mbarrier.arrive.shared::cta.b64 _, [%r2], 3;"
    ));
    assert!(over.message.contains("more than 1 arrivals"), "{over}");
    let early = lazy_error(&format!(
        "{INIT}@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0], 256, [%r2];\n@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;"
    ));
    assert!(
        early.message.contains("ends before this copy is complete"),
        "{early}"
    );
}

#[test]
fn bulk_stores() {
    let body = |fence: &str, wait: &str| {
        format!(
            "st.shared.u32 [%r3], %r0;\n{fence}\nbar.sync 0;\n@!%p0 bra E;\ncp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 256;\ncp.async.bulk.commit_group;\n{wait}\nE:\nbar.sync 0;\nst.shared.u32 [%r3], 99;\n\
            @%p0 cp.async.bulk.wait_group 0;"
        )
    };
    let (fence, read) = (
        "fence.proxy.async.shared::cta;",
        "cp.async.bulk.wait_group.read 0;",
    );
    assert!(results(&body(fence, read))[..64].iter().copied().eq(0..64));
    let unfenced = lazy_error(&body("", read));
    assert!(
        unfenced.message.contains("no fence.proxy.async"),
        "{unfenced}"
    );
    for order in every_order(&block(64)) {
        let reused = run(&body(fence, ""), &order).unwrap_err();
        assert!(
            reused
                .message
                .contains("the store of line 25 may still read it"),
            "{reused}"
        );
    }
}

/// Ranks 1 to 5, every swizzle, tiles that stick out on all sides; to shared memory and back.
#[test]
fn tiles_of_every_rank() {
    for rank in 1..=5 {
        for (swizzle, ty) in [
            (Swizzle::None, Ty::F32),
            (Swizzle::B32, Ty::BF16),
            (Swizzle::B64, Ty::F32),
            (Swizzle::B128, Ty::BF16),
        ] {
            for shift in [-1, 0, 1] {
                tile(rank, swizzle, ty, shift);
            }
        }
    }
}

fn tile(rank: usize, swizzle: Swizzle, ty: Ty, shift: i32) {
    let size = ty.bytes();
    let inner = if swizzle == Swizzle::B32 {
        32 / size
    } else {
        64 / size
    };
    let dims = &[40, 5, 3, 3, 2][..rank];
    let boxes = &[inner, 3, 2, 2, 2][..rank];
    let strides: Vec<usize> = (1..rank)
        .map(|d| 64 * 4 * dims[1..d].iter().product::<usize>())
        .collect();
    // Rows are 256 bytes apart, and longer than the tensor is wide.
    let bytes = 256 * dims[1..].iter().product::<usize>();
    let n = boxes.iter().product::<usize>();
    let x: Vec<u8> = (0..bytes).map(|i| (i * 31 % 251) as u8 | 1).collect();
    let mut dev = Device::new();
    let (from, to) = (dev.upload(&x), dev.upload(&vec![0u8; bytes]));
    let linear = dev.alloc(4096);
    let mut map = |base: Buffer| {
        let map = TensorMap {
            ty,
            base: base.address,
            dims: dims.iter().map(|d| *d as u64).collect(),
            strides: strides.iter().map(|s| *s as u64).collect(),
            box_dims: boxes.iter().map(|b| *b as u32).collect(),
            swizzle,
        };
        dev.tensor_map(map).unwrap_or_else(|e| panic!("{e}"))
    };
    let (a, b) = (map(from), map(to));
    let corner: Vec<i32> = (0..rank)
        .map(|d| if d == 0 { shift * 28 } else { shift * 2 })
        .collect();
    let coords: Vec<String> = corner.iter().map(i32::to_string).collect();
    let coords = coords.join(", ");
    let source = format!(
        "{HEAD}.visible .entry k(.param .align 64 .b8 a[128], .param .align 64 .b8 b[128], .param .u64 q)
{{
.reg .pred %p;
.reg .b32 %r<8>;
.reg .b64 %rd<8>;
.shared .align 1024 .b8 sm[4096];
.shared .align 8 .b8 mb[8];
mov.b64 %rd0, a;
cvta.param.u64 %rd0, %rd0;
mov.b64 %rd1, b;
cvta.param.u64 %rd1, %rd1;
ld.param.u64 %rd2, [q];
mov.u32 %r1, sm;
mov.u32 %r2, mb;
mbarrier.init.shared::cta.b64 [%r2], 1;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], {tile_bytes};
cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd0, {{{coords}}}], [%r2];
W: mbarrier.try_wait.parity.shared::cta.b64 %p, [%r2], 0;
@!%p bra W;
cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r1], {tile_bytes};
cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group [%rd1, {{{coords}}}], [%r1];
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
ret;
}}
",
        tile_bytes = n * size
    );
    let args = [a.into(), b.into(), linear.into()];
    let module = Module::load(&source).unwrap_or_else(|e| panic!("{e}"));
    dev.launch_in_all_orders(&module, "k", &block(1), &args)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut expected = vec![0; bytes];
    let mut shared = vec![0; n * size];
    for i in 0..n {
        let mut rest = i;
        let at: Vec<i32> = boxes
            .iter()
            .zip(&corner)
            .map(|(b, c)| {
                let x = (rest % b) as i32;
                rest /= b;
                c + x
            })
            .collect();
        let inside = at.iter().zip(dims).all(|(x, d)| (0..*d as i32).contains(x));
        if !inside {
            continue;
        }
        let global = at[0] as usize * size
            + at[1..]
                .iter()
                .zip(&strides)
                .map(|(x, s)| *x as usize * s)
                .sum::<usize>();
        expected[global..global + size].copy_from_slice(&x[global..global + size]);
        // 16-byte chunks: their number within a row of the pattern is xored with the number of the 128-byte line.
        let lines = match swizzle {
            Swizzle::None => 1,
            Swizzle::B32 => 2,
            Swizzle::B64 => 4,
            Swizzle::B128 => 8,
        };
        let linear = i * size;
        let place = linear ^ (linear / 128 % lines * 16);
        if place + size <= shared.len() {
            shared[place..place + size].copy_from_slice(&x[global..global + size]);
        }
    }
    let name = format!("rank {rank}, {swizzle:?}, {ty:?}, corner {corner:?}");
    assert!(dev.download::<u8>(to).unwrap() == expected, "{name}");
    assert!(
        dev.download::<u8>(linear).unwrap()[..n * size] == shared,
        "{name}"
    );
}

/// Sums in global memory over CTAs, as a gradient is accumulated.
#[test]
fn reductions() {
    for (ty, op) in [(Ty::F32, "add.f32"), (Ty::BF16, "add.noftz.bf16")] {
        for order in every_order(&Launch::new([5, 1, 1], [1; 3])) {
            reduction(ty, op, &order);
        }
    }
}

fn reduction(ty: Ty, op: &str, order: &Launch) {
    let (rows, columns) = (8, 32);
    let n = rows * columns;
    let bytes = n * ty.bytes();
    // Small integers: exact in bf16 and in any order.
    let x: Vec<f32> = (0..n * 5).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
    let encode = |v: &[f32]| -> Vec<u8> {
        let one = |x: &f32| {
            if ty == Ty::F32 {
                x.to_le_bytes().to_vec()
            } else {
                bf16::from_f32(*x).to_le_bytes().to_vec()
            }
        };
        v.iter().flat_map(one).collect()
    };
    let mut dev = Device::new();
    let from = dev.upload(&encode(&x));
    let (flat, tiled) = (
        dev.upload(&encode(&vec![1.0; n])),
        dev.upload(&encode(&vec![2.0; n])),
    );
    let map = TensorMap {
        ty,
        base: tiled.address,
        dims: vec![columns as u64, rows as u64],
        strides: vec![(columns * ty.bytes()) as u64],
        box_dims: vec![columns as u32, rows as u32],
        swizzle: Swizzle::None,
    };
    let map = dev.tensor_map(map).unwrap();
    let body = format!(
        "mov.u32 %r5, %ctaid.x;\nmul.wide.u32 %rd3, %r5, {bytes};\nadd.s64 %rd0, %rd0, %rd3;\n{INIT}mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], {bytes};\n\
        cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd0], {bytes}, [%r2];\n{WAIT}cp.reduce.async.bulk.global.shared::cta.bulk_group.{op} [%rd1], [%r1], {bytes};\n\
        cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%rd2, {{0, 0}}], [%r1];\ncp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;"
    );
    let args = [from.into(), flat.into(), map.into()];
    launch(&mut dev, &source(&body), order, &args).unwrap_or_else(|e| panic!("{e}"));
    let sums = |first: f32| {
        encode(
            &(0..n)
                .map(|i| first + (0..5).map(|c| x[c * n + i]).sum::<f32>())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(dev.download::<u8>(flat).unwrap(), sums(1.0), "{order:?}");
    assert_eq!(dev.download::<u8>(tiled).unwrap(), sums(2.0), "{order:?}");
}

#[test]
fn wrong_tensor_maps() {
    let good = TensorMap {
        ty: Ty::BF16,
        base: 0x1000,
        dims: vec![64, 64],
        strides: vec![128],
        box_dims: vec![64, 64],
        swizzle: Swizzle::B128,
    };
    let mut dev = Device::new();
    assert!(dev.tensor_map(good.clone()).is_ok());
    for (map, rule) in [
        (
            TensorMap {
                base: 0x1008,
                ..good.clone()
            },
            "the address is a multiple of 16",
        ),
        (
            TensorMap {
                strides: vec![120],
                ..good.clone()
            },
            "strides are multiples of 16",
        ),
        (
            TensorMap {
                strides: vec![],
                ..good.clone()
            },
            "one stride fewer",
        ),
        (
            TensorMap {
                dims: vec![64, 0],
                ..good.clone()
            },
            "dimensions are 1",
        ),
        (
            TensorMap {
                box_dims: vec![64, 257],
                ..good.clone()
            },
            "1 to 256",
        ),
        (
            TensorMap {
                box_dims: vec![4, 64],
                ..good.clone()
            },
            "multiple of 16 bytes",
        ),
        (
            TensorMap {
                box_dims: vec![128, 64],
                ..good.clone()
            },
            "no longer than the swizzle",
        ),
    ] {
        let error = dev.tensor_map(map).expect_err(rule);
        assert!(error.message.contains(rule), "{error}");
    }
    let rank = lazy_error(&format!(
        "{INIT}cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd2, {{0, 0, 0}}], [%r2];"
    ));
    assert!(
        rank.message
            .contains("a tensor map of rank 2 in a copy of rank 3"),
        "{rank}"
    );
    let place = lazy_error(&format!(
        "{INIT}cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1+64], [%rd2, {{0, 0}}], [%r2];"
    ));
    assert!(place.message.contains("not a multiple of 128"), "{place}");
    let none = lazy_error(&format!(
        "{INIT}cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd0, {{0, 0}}], [%r2];"
    ));
    assert!(none.message.contains("there is no tensor map"), "{none}");
}
