//! What lanes of a warp do together: exchange, divergence, matrices.
use crate::common::{HEAD, Rng, block, launch, per_lane};
use half::{bf16, f16};
use ptxsim::*;

fn inputs(threads: usize) -> Vec<[u32; 3]> {
    let mut rng = Rng(11);
    (0..threads)
        .map(|_| std::array::from_fn(|_| rng.bits()))
        .collect()
}

/// `%d` and `%e` of each of 64 threads.
fn run(body: &str) -> (Vec<[u32; 3]>, Vec<[u32; 2]>) {
    let inputs = inputs(64);
    let results = per_lane(&format!("mov.u32 %d, 0;\nmov.u32 %e, 0;\n{body}"), &inputs);
    (inputs, results.unwrap_or_else(|e| panic!("{body}: {e}")))
}

/// Every mode, distance, segment and clamp, against the definition of the ISA.
#[test]
fn shuffles() {
    for mode in ["up", "down", "bfly", "idx"] {
        for b in [0, 1, 3, 7, 16, 31] {
            for c in [0x1f, 0, 0x181f, 0x1800, 0x1c03, 0x0f, 0x1000 | 15] {
                let body = format!(
                    "shfl.sync.{mode}.b32 %d|%p1, %a, {b}, {c}, -1;\nselp.u32 %e, 1, 0, %p1;"
                );
                let (inputs, results) = run(&body);
                for (t, result) in results.iter().enumerate() {
                    let lane = (t % 32) as i32;
                    let (segment, clamp) = (c >> 8 & 31, c & 31);
                    let limit = lane & segment | clamp & !segment;
                    let (j, valid) = match mode {
                        "up" => (lane - b, lane - b >= limit),
                        "down" => (lane + b, lane + b <= limit),
                        "bfly" => (lane ^ b, (lane ^ b) <= limit),
                        _ => {
                            let j = lane & segment | b & !segment;
                            (j, j <= limit)
                        }
                    };
                    let from = if valid { j } else { lane } as usize;
                    assert_eq!(
                        *result,
                        [inputs[t / 32 * 32 + from][0], valid as u32],
                        "{body} thread {t}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_sum_by_butterfly() {
    let steps: String = [16, 8, 4, 2, 1]
        .iter()
        .map(|n| format!("activemask.b32 %r1;\nshfl.sync.bfly.b32 %r2|%p1, %d, {n}, 31, %r1;\nadd.u32 %d, %d, %r2;\n"))
        .collect();
    let (inputs, results) = run(&format!("mov.u32 %d, %a;\n{steps}"));
    for (warp, results) in inputs.chunks(32).zip(results.chunks(32)) {
        let sum = warp.iter().fold(0u32, |s, x| s.wrapping_add(x[0]));
        assert!(results.iter().all(|r| r[0] == sum));
    }
}

/// Halves of a warp that name different lanes do not mix.
#[test]
fn votes_and_reductions() {
    let halves = "setp.lt.u32 %p2, %lane, 16;\nselp.u32 %r1, 0xffff, 0xffff0000, %p2;\nsetp.lt.s32 %p1, %a, 0;\n";
    let negative = |x: &[u32; 3]| (x[0] as i32) < 0;
    let half = |inputs: &[[u32; 3]], t: usize| inputs[t / 16 * 16..t / 16 * 16 + 16].to_vec();
    let check = |body: &str, g: &dyn Fn(&[[u32; 3]], usize) -> u32| {
        let (inputs, results) = run(&format!("{halves}{body}"));
        for (t, result) in results.iter().enumerate() {
            assert_eq!(result[0], g(&half(&inputs, t), t), "{body} thread {t}");
        }
    };
    check("vote.sync.ballot.b32 %d, %p1, %r1;", &|half, t| {
        let mask = half
            .iter()
            .rev()
            .fold(0, |m, x| m << 1 | negative(x) as u32);
        mask << (t / 16 % 2 * 16)
    });
    let vote =
        |kind: &str| format!("vote.sync.{kind}.pred %p3, %p1, %r1;\nselp.u32 %d, 1, 0, %p3;");
    check(&vote("all"), &|half, _| half.iter().all(negative) as u32);
    check(&vote("any"), &|half, _| half.iter().any(negative) as u32);
    check(&vote("uni"), &|half, _| {
        half.iter().all(|x| negative(x) == negative(&half[0])) as u32
    });
    check("redux.sync.add.s32 %d, %a, %r1;", &|half, _| {
        half.iter().fold(0, |s: u32, x| s.wrapping_add(x[0]))
    });
    check("redux.sync.max.s32 %d, %a, %r1;", &|half, _| {
        half.iter().map(|x| x[0] as i32).max().unwrap() as u32
    });
    check("redux.sync.min.u32 %d, %a, %r1;", &|half, _| {
        half.iter().map(|x| x[0]).min().unwrap()
    });
    check("redux.sync.xor.b32 %d, %a, %r1;", &|half, _| {
        half.iter().fold(0, |s, x| s ^ x[0])
    });
    check(
        "elect.sync %d|%p3, %r1;\n@!%p3 mov.u32 %d, 99;",
        &|_, t| match t % 16 {
            0 => t as u32 % 32,
            _ => 99,
        },
    );
}

#[test]
fn lanes_that_do_not_take_part() {
    let error = |body: &str| per_lane(body, &inputs(32)).expect_err(body).message;
    let outside =
        error("setp.lt.u32 %p1, %lane, 16;\n@%p1 shfl.sync.bfly.b32 %d, %a, 16, 31, 0xffff;");
    assert!(
        outside.contains("reads lane 16, which does not take part"),
        "{outside}"
    );
    let unnamed = error("redux.sync.add.u32 %d, %a, 0xffff;");
    assert!(
        unnamed.contains("a lane that mask 0000ffff does not name"),
        "{unnamed}"
    );
    let missing = error(
        "setp.lt.u32 %p1, %lane, 16;\n@%p1 bra A;\nbar.sync 1, 32;\nA:\nredux.sync.add.u32 %d, %a, -1;",
    );
    assert!(
        missing.contains("deadlock") && missing.contains("needs lanes ffffffff"),
        "{missing}"
    );
}

/// Loops of different lengths, lanes that leave, and where all come together again.
#[test]
fn divergence() {
    let (_, results) = run(
        "and.b32 %r1, %lane, 3;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra ZERO;\nLOOP:\nadd.u32 %d, %d, %r1;\nsub.u32 %r1, %r1, 1;\n\
        setp.ne.u32 %p2, %r1, 0;\n@%p2 bra LOOP;\nbra.uni JOIN;\nZERO:\nmov.u32 %d, 100;\nJOIN:\nactivemask.b32 %e;\nshfl.sync.bfly.b32 %d, %d, 1, 31, -1;",
    );
    for (t, result) in results.iter().enumerate() {
        assert_eq!(
            *result,
            [[100, 1, 3, 6][(t ^ 1) % 4], u32::MAX],
            "thread {t}"
        );
    }
    let body = "setp.ge.u32 %p1, %t, 20;\n@%p1 bra OUT;\nactivemask.b32 %d;\nOUT:\n@%p1 exit;\nbar.sync 0;";
    let results = per_lane(body, &inputs(40)).unwrap();
    assert!(results[..20].iter().all(|r| r[0] == (1 << 20) - 1));
}

/// ldmatrix, plain and transposed, feeds every shape of mma; stmatrix undoes ldmatrix.
#[test]
fn products_of_matrices() {
    for (k, ty) in [(16, "bf16"), (16, "f16"), (8, "bf16"), (8, "f16")] {
        product(k, ty);
    }
}

fn product(k: usize, ty: &str) {
    let encode = |x: f32| {
        if ty == "bf16" {
            bf16::from_f32(x).to_bits()
        } else {
            f16::from_f32(x).to_bits()
        }
    };
    let decode = |x: u16| {
        if ty == "bf16" {
            bf16::from_bits(x).to_f64()
        } else {
            f16::from_bits(x).to_f64()
        }
    };
    let mut rng = Rng(5);
    let mut numbers = |n: usize| -> Vec<u16> { (0..n).map(|_| encode(rng.next())).collect() };
    let (a, b) = (numbers(16 * k), numbers(k * 8));
    let mut dev = Device::new();
    let (pa, pb, po) = (dev.upload(&a), dev.upload(&b), dev.alloc(16 * 8 * 4));
    let args = [pa.into(), pb.into(), po.into()];
    launch(&mut dev, &product_source(k, ty), &block(32), &args).unwrap_or_else(|e| panic!("{e}"));
    let d: Vec<f32> = dev.download(po).unwrap();
    for (i, d) in d.iter().enumerate() {
        let (row, column) = (i / 8, i % 8);
        let terms = (0..k).map(|x| decode(a[row * k + x]) * decode(b[x * 8 + column]));
        let expected = 1.0 + terms.sum::<f64>();
        assert!(
            (*d as f64 - expected).abs() < 1e-5,
            "{ty} k {k} row {row} column {column}: {d}, not {expected}"
        );
    }
    assert_eq!(dev.download::<u16>(pb).unwrap(), b);
}

/// A at the beginning of shared memory, B after 512 bytes, both row by row.
fn product_source(k: usize, ty: &str) -> String {
    let list = |name: &str, n: usize| {
        (0..n)
            .map(|i| format!("%{name}{i}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (na, nb) = (k / 4, k / 8);
    let (la, lb) = (list("a", na), list("b", nb));
    let copy = |to: usize, from: &str, words: usize| -> String {
        let step = |i: usize| {
            format!(
                "mad.lo.u32 %r5, %r0, 4, {};\ncvt.u64.u32 %rd2, %r5;\nadd.s64 %rd3, {from}, %rd2;\nld.global.u32 %r6, [%rd3];\nadd.u32 %r7, %r1, %r5;\nst.shared.u32 [%r7+{to}], %r6;\n",
                i * 128
            )
        };
        (0..words.div_ceil(32)).map(step).collect()
    };
    format!(
        "{HEAD}.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 po)
{{
.reg .b32 %r<20>;
.reg .b64 %rd<8>;
.reg .b32 %a<4>;
.reg .b32 %b<2>;
.reg .f32 %c<4>;
.shared .align 128 .b8 sm[1024];
ld.param.u64 %rd0, [pa];
ld.param.u64 %rd1, [pb];
ld.param.u64 %rd4, [po];
mov.u32 %r0, %tid.x;
mov.u32 %r1, sm;
{load_a}{load_b}bar.warp.sync -1;
and.b32 %r8, %r0, 15;
shr.u32 %r9, %r0, 4;
mul.lo.u32 %r10, %r8, {pitch};
mad.lo.u32 %r10, %r9, {second}, %r10;
add.u32 %r10, %r10, %r1;
ldmatrix.sync.aligned.m8n8.x{na}.shared.b16 {{{la}}}, [%r10];
and.b32 %r8, %r0, {mask};
mad.lo.u32 %r11, %r8, 16, %r1;
ldmatrix.sync.aligned.m8n8.x{nb}.trans.shared.b16 {{{lb}}}, [%r11+512];
mov.f32 %c0, 0f3F800000;
mov.f32 %c1, %c0;
mov.f32 %c2, %c0;
mov.f32 %c3, %c0;
mma.sync.aligned.m16n8k{k}.row.col.f32.{ty}.{ty}.f32 {{%c0, %c1, %c2, %c3}}, {{{la}}}, {{{lb}}}, {{%c0, %c1, %c2, %c3}};
shr.u32 %r12, %r0, 2;
and.b32 %r13, %r0, 3;
mul.lo.u32 %r14, %r12, 32;
mad.lo.u32 %r14, %r13, 8, %r14;
cvt.u64.u32 %rd2, %r14;
add.s64 %rd4, %rd4, %rd2;
st.global.v2.f32 [%rd4], {{%c0, %c1}};
st.global.v2.f32 [%rd4+256], {{%c2, %c3}};
stmatrix.sync.aligned.m8n8.x{nb}.trans.shared.b16 [%r11+512], {{{lb}}};
ld.shared.u32 %r6, [%r1+512];
st.global.u32 [%rd1], %r6;
ret;
}}
",
        load_a = copy(0, "%rd0", 16 * k / 2),
        load_b = copy(512, "%rd1", k * 4),
        pitch = k * 2,
        second = if k == 16 { 16 } else { 0 },
        mask = k - 1,
    )
}
