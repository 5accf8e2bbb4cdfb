//! Single precision and 16-bit floats, one instruction after the other.
use crate::common::{check, pairs, per_lane};
use half::{bf16, f16};

/// Every NaN that single-precision arithmetic makes.
const NAN: u32 = 0x7fff_ffff;

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn bits(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

/// Ordinary numbers, ties, zeros, subnormals, infinities, NaNs.
fn numbers() -> Vec<[u32; 3]> {
    let special = [
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -0.0,
        0.0,
        f32::MIN_POSITIVE,
        f32::MAX,
        -f32::MAX,
    ];
    let ordinary = [
        1.0,
        -1.0,
        0.5,
        1.5,
        -2.5,
        3.0,
        1e-3,
        1e10,
        -7.7e-20,
        1.000_000_1,
        0.333_333_34,
        16_777_217.0,
        2.0e38,
    ];
    let subnormal = [1e-40, -1e-42, f32::from_bits(1)];
    let all = special.into_iter().chain(ordinary).chain(subnormal);
    pairs(&all.map(f32::to_bits).collect::<Vec<_>>())
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0f32.copysign(x)
    } else {
        x
    }
}

fn float2(op: &str, g: impl Fn(f32, f32) -> f32) {
    check(
        &format!("{op} %f1, %fa, %fb;\nmov.b32 %d, %f1;"),
        &numbers(),
        |a, b, _| bits(g(f(a), f(b))),
    );
}

fn float1(op: &str, g: impl Fn(f32) -> f32) {
    check(
        &format!("{op} %f1, %fa;\nmov.b32 %d, %f1;"),
        &numbers(),
        |a, _, _| bits(g(f(a))),
    );
}

#[test]
fn to_nearest() {
    float2("add.f32", |a, b| a + b);
    float2("sub.rn.f32", |a, b| a - b);
    float2("mul.f32", |a, b| a * b);
    float2("div.rn.f32", |a, b| a / b);
    float2("add.ftz.f32", |a, b| flush(flush(a) + flush(b)));
    float2("mul.ftz.f32", |a, b| flush(flush(a) * flush(b)));
    float2("add.sat.f32", |a, b| {
        if a + b > 0.0 { (a + b).min(1.0) } else { 0.0 }
    });
    check(
        "fma.rn.f32 %f1, %fa, %fb, %fc;\nmov.b32 %d, %f1;",
        &numbers(),
        |a, b, c| bits(f(a).mul_add(f(b), f(c))),
    );
}

/// Sums of f64 that are exactly between two f32, though the exact ones are not.
#[test]
fn fused_multiply_add_rounds_once() {
    let (a, b) = (1.0 + f32::EPSILON, 1.0 + 2.0 * f32::EPSILON);
    let cases: Vec<[u32; 3]> = [
        [a, b, 2f32.powi(-70)],
        [a, b, -2f32.powi(-70)],
        [4097.0, 4097.0, 2f32.powi(-60)],
        [4097.0, 4097.0, -2f32.powi(-60)],
        [
            f32::from_bits(0x3f80_0001),
            f32::from_bits(0x3f00_0000),
            2f32.powi(-80),
        ],
        [2f32.powi(-100), 2f32.powi(-49), 2f32.powi(-126)],
        [2f32.powi(-75), 2f32.powi(-75), f32::from_bits(3)],
    ]
    .into_iter()
    .map(|x| x.map(f32::to_bits))
    .collect();
    check(
        "fma.rn.f32 %f1, %fa, %fb, %fc;\nmov.b32 %d, %f1;",
        &cases,
        |a, b, c| bits(f(a).mul_add(f(b), f(c))),
    );
}

/// The neighbours of a result decide which one a direction takes; here from an exact sum or product in integers.
#[test]
fn directed_rounding() {
    let direction = |name: &str, near: f32, above: std::cmp::Ordering| -> f32 {
        // `above`: how the exact result compares with the nearest one.
        match (name, above.is_gt(), above.is_lt()) {
            ("rz", true, _) if near < 0.0 => near.next_up(),
            ("rz", _, true) if near > 0.0 => near.next_down(),
            ("rm", _, true) => near.next_down(),
            ("rp", true, _) => near.next_up(),
            _ => near,
        }
    };
    let mut rng = crate::common::Rng(5);
    let scaled = |v: u32| v as i32 as f32 * 2f32.powi(-20);
    let inputs: Vec<[u32; 3]> = (0..256)
        .map(|_| std::array::from_fn(|_| scaled(rng.bits()).to_bits()))
        .collect();
    // 24 bits each at multiples of 2^-20 2^-8: products and sums are exact in i128 at 2^-60.
    let exact = |x: f32| (x as f64 * 2f64.powi(60)) as i128;
    for name in ["rz", "rm", "rp"] {
        let compare = |sum: i128, near: f32| sum.cmp(&exact(near));
        check(
            &format!("add.{name}.f32 %f1, %fa, %fb;\nmov.b32 %d, %f1;"),
            &inputs,
            |a, b, _| {
                let near = f(a) + f(b);
                direction(name, near, compare(exact(f(a)) + exact(f(b)), near)).to_bits()
            },
        );
        check(
            &format!("fma.{name}.f32 %f1, %fa, %fb, %fc;\nmov.b32 %d, %f1;"),
            &inputs,
            |a, b, c| {
                let near = f(a).mul_add(f(b), f(c));
                let product = (f(a) as f64 * f(b) as f64 * 2f64.powi(60)) as i128;
                direction(name, near, compare(product + exact(f(c)), near)).to_bits()
            },
        );
    }
    let limit = [[f32::MAX.to_bits(), f32::MAX.to_bits(), 0]];
    check(
        "add.rz.f32 %f1, %fa, %fb;\nmov.b32 %d, %f1;",
        &limit,
        |_, _, _| f32::MAX.to_bits(),
    );
    check(
        "add.rp.f32 %f1, %fa, %fb;\nmov.b32 %d, %f1;",
        &limit,
        |_, _, _| f32::INFINITY.to_bits(),
    );
    // Subtracting a trace from 1 leaves 1 to nearest.
    let trace = [[1f32.to_bits(), 1e-38f32.to_bits(), 0]];
    check(
        "sub.rm.f32 %f1, %fa, %fb;\nmov.b32 %d, %f1;",
        &trace,
        |_, _, _| 1f32.next_down().to_bits(),
    );
}

/// A NaN loses against a number unless `.NaN`; −0 is less than +0.
#[test]
fn minimum_and_maximum() {
    let min = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => f(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    };
    float2("min.f32", min);
    float2("max.f32", |a, b| -min(-a, -b));
    float2("min.NaN.f32", |a, b| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            min(a, b)
        }
    });
    float2("max.NaN.f32", |a, b| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            -min(-a, -b)
        }
    });
    float2("min.ftz.f32", |a, b| min(flush(a), flush(b)));
}

#[test]
fn functions() {
    check(
        "neg.f32 %f1, %fa;\nmov.b32 %d, %f1;",
        &numbers(),
        |a, _, _| a ^ 0x8000_0000,
    );
    check(
        "abs.f32 %f1, %fa;\nmov.b32 %d, %f1;",
        &numbers(),
        |a, _, _| a & 0x7fff_ffff,
    );
    float1("sqrt.rn.f32", f32::sqrt);
    float1("rcp.rn.f32", |a| 1.0 / a);
}

/// As close as the ISA promises: relative errors of 2^-22 to 2^-23, of tanh 2^-11.
#[test]
fn approximations() {
    let near = |op: &str, bound: f64, g: &dyn Fn(f64) -> f64| {
        let results = per_lane(
            &format!("{op} %f1, %fa;\nmov.b32 %d, %f1;\nmov.b32 %e, 0;"),
            &numbers(),
        )
        .unwrap();
        for (input, result) in numbers().iter().zip(results) {
            let x = if op.contains("ftz") {
                flush(f(input[0]))
            } else {
                f(input[0])
            };
            let (expected, got) = (g(x as f64), f(result[0]) as f64);
            let flushed =
                op.contains("ftz") && expected.abs() < f32::MIN_POSITIVE as f64 && got == 0.0;
            let overflow = expected.abs() > f32::MAX as f64
                && got.is_infinite()
                && (got > 0.0) == (expected > 0.0);
            let same = expected == got || expected.is_nan() && got.is_nan() || overflow || flushed;
            let tiny = 2f64.powi(-149);
            assert!(
                same || (expected - got).abs() <= bound * expected.abs() + tiny,
                "{op} {x}: {got}, not {expected}"
            );
        }
    };
    near("ex2.approx.f32", 2f64.powi(-22), &f64::exp2);
    near("ex2.approx.ftz.f32", 2f64.powi(-22), &f64::exp2);
    near("lg2.approx.f32", 2f64.powi(-22), &f64::log2);
    near("rcp.approx.f32", 2f64.powi(-23), &|x| 1.0 / x);
    near("rcp.approx.ftz.f32", 2f64.powi(-23), &|x| 1.0 / x);
    near("rsqrt.approx.f32", 2f64.powi(-22), &|x| 1.0 / x.sqrt());
    near("sqrt.approx.f32", 2f64.powi(-23), &f64::sqrt);
    near("tanh.approx.f32", 2f64.powi(-11), &f64::tanh);
}

type Comparison = fn(f32, f32) -> bool;

#[test]
fn comparisons() {
    let n = &numbers();
    let cases: [(&str, Comparison); 8] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a.partial_cmp(&b).is_some_and(|o| o.is_ne())),
        ("lt", |a, b| a < b),
        ("ge", |a, b| a >= b),
        ("neu", |a, b| a != b),
        ("gtu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_gt())),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (op, holds) in cases {
        check(
            &format!("setp.{op}.f32 %p1, %fa, %fb;\nselp.u32 %d, 1, 0, %p1;"),
            n,
            |a, b, _| holds(f(a), f(b)) as u32,
        );
        check(
            &format!("setp.{op}.ftz.f32 %p1, %fa, %fb;\nselp.u32 %d, 1, 0, %p1;"),
            n,
            |a, b, _| holds(flush(f(a)), flush(f(b))) as u32,
        );
    }
    check(
        "selp.f32 %f1, %fa, %fb, %p1;\nmov.b32 %d, %f1;",
        n,
        |_, b, _| b,
    );
}

/// 16-bit numbers, and how to compute with them.
struct Half {
    name: &'static str,
    decode: fn(u16) -> f64,
    /// Rounds once.
    encode: fn(f64) -> u16,
}

const HALVES: [Half; 2] = [
    Half {
        name: "f16",
        decode: |x| f16::from_bits(x).to_f64(),
        encode: |x| {
            if x.is_nan() {
                0x7fff
            } else {
                f16::from_f64(x).to_bits()
            }
        },
    },
    Half {
        name: "bf16",
        decode: |x| bf16::from_bits(x).to_f64(),
        encode: |x| {
            if x.is_nan() {
                0x7fff
            } else {
                bf16::from_f64(x).to_bits()
            }
        },
    },
];

fn half_numbers() -> Vec<[u32; 3]> {
    pairs(&[
        0x0000_8000,
        0x3c00_bc00,
        0x3f80_bf80,
        0x3555_4248,
        0x7bff_0001,
        0x7c00_fc00,
        0x7f80_ff80,
        0x7fff_1234,
        0x4049_3dcc,
        0x5678_c321,
        0x8001_03ff,
        0x7f7f_0080,
    ])
}

#[test]
fn pairs_of_halves() {
    for Half {
        name,
        decode,
        encode,
    } in HALVES
    {
        let both = |g: &dyn Fn([f64; 3]) -> f64, s: [u32; 3]| {
            let one = |shift: u32| encode(g(s.map(|x| decode((x >> shift) as u16)))) as u32;
            one(0) | one(16) << 16
        };
        let n = &half_numbers();
        // Sums and products of these numbers are exact in f64, so each rounds once.
        check(&format!("add.{name}x2 %d, %a, %b;"), n, |a, b, c| {
            both(&|[x, y, _]| x + y, [a, b, c])
        });
        check(&format!("sub.{name}x2 %d, %a, %b;"), n, |a, b, c| {
            both(&|[x, y, _]| x - y, [a, b, c])
        });
        check(&format!("mul.{name}x2 %d, %a, %b;"), n, |a, b, c| {
            both(&|[x, y, _]| x * y, [a, b, c])
        });
        check(&format!("max.{name}x2 %d, %a, %b;"), n, |a, b, c| {
            both(
                &|[x, y, _]| {
                    if x.is_nan() {
                        y
                    } else if y.is_nan() || x > y {
                        x
                    } else if y > x || x.is_sign_negative() {
                        y
                    } else {
                        x
                    }
                },
                [a, b, c],
            )
        });
        check(&format!("neg.{name}x2 %d, %a;"), n, |a, _, _| {
            a ^ 0x8000_8000
        });
        check(&format!("abs.{name}x2 %d, %a;"), n, |a, _, _| {
            a & 0x7fff_7fff
        });
        check(
            &format!(
                "mov.b32 {{%h1, %h2}}, %a;\nmov.b32 {{%h3, %h4}}, %b;\nadd.{name} %h5, %h1, %h4;\nmov.b32 %d, {{%h5, %h5}};"
            ),
            n,
            |a, b, _| encode(decode(a as u16) + decode((b >> 16) as u16)) as u32 * 0x1_0001,
        );
        check(
            &format!(
                "mov.b32 {{%h1, %h2}}, %a;\nmov.b32 {{%h3, %h4}}, %b;\nsetp.lt.{name} %p1, %h1, %h3;\nselp.u32 %d, 1, 0, %p1;"
            ),
            n,
            |a, b, _| (decode(a as u16) < decode(b as u16)) as u32,
        );
        check(
            &format!("fma.rn.{name}x2 %d, %a, %b, %c;"),
            &[
                [0x3c01_3f81, 0x3c01_3f81, 0x0000_0000],
                [0x3f80_3c00, 0x3f80_3c00, 0x3f80_3c00],
            ],
            |a, b, c| both(&|[x, y, z]| x * y + z, [a, b, c]),
        );
    }
}

/// A sum whose rounding to f64 would be a tie of the narrow format.
#[test]
fn halves_round_once() {
    // bf16: 1 + 2^-8 is a tie; 2^-120 decides.
    let (one, tie, trace) = (0x3f80, 0x3b80, 0x0380);
    let inputs = [[
        one | one << 16,
        tie | tie << 16,
        trace | (trace | 0x8000) << 16,
    ]];
    check(
        "fma.rn.bf16x2 %d, %b, 0x3f803f80, %a;",
        &inputs,
        |_, _, _| 0x3f80_3f80,
    );
    check(
        "mov.b32 %d, 0x3b803b80;\nfma.rn.bf16x2 %d, %a, %d, %c;",
        &[[0x3f82_3f82, 0, 0x4380_4380]],
        |_, _, _| 0x4380_4380,
    );
    check(
        "fma.rn.relu.bf16x2 %d, %a, %b, %c;",
        &[[0xbf80_3f80, 0x3f80_3f80, 0], [0x7fff_7fff, 0, 0]],
        |a, _, _| {
            if a == 0x7fff_7fff {
                0x7fff_7fff
            } else {
                0x0000_3f80
            }
        },
    );
}
