//! Double precision.
use crate::common::{HEAD, block, launch};
use half::{bf16, f16};
use ptxsim::*;

/// Ordinary numbers, ties, zeros, subnormals, infinities, a NaN; all triples of neighbours in three orders.
fn numbers() -> Vec<[f64; 3]> {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        2.5,
        -3.5,
        0.1,
        1e-310,
        -4.9e-324,
        1e300,
        -1e200,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1.0 + f64::EPSILON,
        65519.999,
        65520.0,
        2f64.powi(31) - 0.5,
        -(2f64.powi(31)) - 0.5,
        2f64.powi(53) + 2.0,
        -1e19,
        1.8e19,
        3.4028235e38,
        3.402823567e38,
        1e-45,
        1.000_000_059_604_644_8,
        -0.003_921_568_627_450_98,
    ];
    let n = numbers.len();
    let triple = |i: usize| [numbers[i / n], numbers[i % n], numbers[(i * 5 + i / n) % n]];
    (0..n * n).map(triple).collect()
}

/// `%fd0` (or `%rd0`, its bits) of each thread; `%fa`, `%fb` and `%fc` are the inputs, `%ra` and `%rb` the bits of two.
fn run(body: &str, inputs: &[[f64; 3]]) -> Result<Vec<u64>, Error> {
    let result = if body.contains("%rd0") {
        "%rd0"
    } else {
        "%fd0"
    };
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out, .param .f64 tenth)
{{
.reg .pred %p<4>;
.reg .b16 %h<4>;
.reg .b32 %r<4>, %t;
.reg .f32 %f<4>;
.reg .b64 %rd<4>, %ra, %rb, %in, %out;
.reg .f64 %fd<4>, %fa, %fb, %fc;
ld.param.u64 %in, [in];
ld.param.u64 %out, [out];
mov.u32 %t, %tid.x;
mad.wide.u32 %in, %t, 24, %in;
mad.wide.u32 %out, %t, 8, %out;
ld.global.f64 %fa, [%in];
ld.global.f64 %fb, [%in+8];
ld.global.f64 %fc, [%in+16];
mov.b64 %ra, %fa;
mov.b64 %rb, %fb;
{body}
st.global.b64 [%out], {result};
ret;
}}
"
    );
    let module = Module::load(&source)?;
    let mut dev = Device::new();
    let mut results = Vec::new();
    for inputs in inputs.chunks(512) {
        let (given, out) = (dev.upload(&inputs.concat()), dev.alloc(inputs.len() * 8));
        let tenth = Arg::Bytes(0.1f64.to_le_bytes().to_vec());
        let args = [given.into(), out.into(), tenth];
        dev.launch(&module, "k", &block(inputs.len() as u32), &args)?;
        results.extend(dev.download::<u64>(out)?);
    }
    Ok(results)
}

/// Any NaN is as good as another.
fn same(x: u64, y: u64) -> bool {
    x == y || f64::from_bits(x).is_nan() && f64::from_bits(y).is_nan()
}

fn check_bits(body: &str, expected: impl Fn([f64; 3]) -> u64) {
    let results = run(body, &numbers()).unwrap_or_else(|e| panic!("{body}: {e}"));
    for (inputs, x) in numbers().into_iter().zip(results) {
        let y = expected(inputs);
        assert_eq!(x, y, "{body}: {inputs:?}: {x:#x}, not {y:#x}");
    }
}

fn check(body: &str, expected: impl Fn([f64; 3]) -> f64) {
    let results = run(body, &numbers()).unwrap_or_else(|e| panic!("{body}: {e}"));
    for (inputs, x) in numbers().into_iter().zip(results) {
        let y = expected(inputs);
        let x64 = f64::from_bits(x);
        assert!(
            same(x, y.to_bits()),
            "{body}: {inputs:?}: {x64:e}, not {y:e}"
        );
    }
}

#[test]
fn arithmetic() {
    check("add.f64 %fd0, %fa, %fb;", |[a, b, _]| a + b);
    check("add.rn.f64 %fd0, %fa, %fb;", |[a, b, _]| a + b);
    check("sub.f64 %fd0, %fa, %fb;", |[a, b, _]| a - b);
    check("mul.f64 %fd0, %fa, %fb;", |[a, b, _]| a * b);
    check("div.rn.f64 %fd0, %fa, %fb;", |[a, b, _]| a / b);
    check("fma.rn.f64 %fd0, %fa, %fb, %fc;", |[a, b, c]| {
        a.mul_add(b, c)
    });
    check("neg.f64 %fd0, %fa;", |[a, ..]| {
        f64::from_bits(a.to_bits() ^ 1 << 63)
    });
    check("abs.f64 %fd0, %fa;", |[a, ..]| a.abs());
    check("sqrt.rn.f64 %fd0, %fa;", |[a, ..]| a.sqrt());
    check("rcp.rn.f64 %fd0, %fa;", |[a, ..]| 1.0 / a);
}

/// Rounded once: the product of these alone would lose what the sum leaves.
#[test]
fn fused_multiply_add() {
    let x = 1.0 + f64::EPSILON;
    let found = run(
        "fma.rn.f64 %fd0, %fa, %fb, %fc;",
        &[[x, x, -1.0 - 2.0 * f64::EPSILON]],
    );
    assert_eq!(found.unwrap(), [2f64.powi(-104).to_bits()]);
}

/// A NaN loses against a number; −0 is less than +0.
#[test]
fn minimum_and_maximum() {
    let min = |a: f64, b: f64| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => f64::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    };
    check("min.f64 %fd0, %fa, %fb;", |[a, b, _]| min(a, b));
    check("max.f64 %fd0, %fa, %fb;", |[a, b, _]| -min(-a, -b));
}

#[test]
fn moves_and_constants() {
    check("mov.f64 %fd0, %fb;", |[_, b, _]| b);
    check("mov.b64 %fd0, %rb;", |[_, b, _]| b);
    check("ld.param.f64 %fd0, [tenth];", |_| 0.1);
    check("mov.f64 %fd0, 0d3FF3C0CA428C59FB;", |_| {
        f64::from_bits(0x3ff3_c0ca_428c_59fb)
    });
    check("mov.f64 %fd0, -0D4000000000000000;", |_| -2.0);
    check("mul.f64 %fd0, %fa, 0.1;", |[a, ..]| a * 0.1);
    // A constant becomes what the instruction computes with.
    check(
        "mov.f32 %f0, 0d3FB999999999999A;\ncvt.f64.f32 %fd0, %f0;",
        |_| 0.1f32 as f64,
    );
    check("mov.f32 %f0, 0.1;\ncvt.f64.f32 %fd0, %f0;", |_| {
        0.1f32 as f64
    });
    check_bits(
        "mov.b64 {%r0, %r1}, %fa;\nmov.b64 %rd0, {%r1, %r0};",
        |[a, ..]| a.to_bits().rotate_left(32),
    );
    check(
        "setp.lt.f64 %p0, %fa, %fb;\nselp.f64 %fd0, %fb, %fc, %p0;",
        |[a, b, c]| if a < b { b } else { c },
    );
}

type Comparison = fn(f64, f64) -> bool;

#[test]
fn comparisons() {
    let cases: [(&str, Comparison); 9] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a.partial_cmp(&b).is_some_and(|o| o.is_ne())),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("geu", |a, b| a.partial_cmp(&b).is_none_or(|o| o.is_ge())),
        ("neu", |a, b| a != b),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (op, holds) in cases {
        let body = format!("setp.{op}.f64 %p0, %fa, %fb;\nselp.b64 %rd0, 1, 0, %p0;");
        check_bits(&body, |[a, b, _]| holds(a, b) as u64);
    }
}

/// The nearest of a 16-bit number and its neighbours, the even one of two; `decode` takes infinity for the next power of
/// two. A conversion by way of f32 may be one off.
fn nearest(x: f64, near: u16, decode: impl Fn(u16) -> f64) -> u64 {
    if x.is_nan() {
        return 0x7fff;
    }
    if x.is_infinite() || x == 0.0 {
        return near as u64;
    }
    let magnitude = near & 0x7fff;
    let neighbours = [magnitude.saturating_sub(1), magnitude, magnitude + 1];
    let finite = neighbours.map(|y| y | near & 0x8000);
    let distance = |y: &u16| ((decode(*y) - x).abs(), y & 1);
    let best = finite.into_iter().filter(|y| !decode(*y).is_nan());
    let best = best.min_by(|y, z| distance(y).partial_cmp(&distance(z)).unwrap());
    best.unwrap_or(near) as u64
}

/// Rust's casts round to nearest.
#[test]
fn from_and_to_floats() {
    let single = |x: f64| {
        if x.is_nan() {
            0x7fff_ffff
        } else {
            (x as f32).to_bits() as u64
        }
    };
    let word = |op: &str| format!("{op} %f0, %fa;\nmov.b32 %r0, %f0;\ncvt.u64.u32 %rd0, %r0;");
    check_bits(&word("cvt.rn.f32.f64"), |[a, ..]| single(a));
    check_bits(&word("cvt.rn.ftz.f32.f64"), |[a, ..]| match a as f32 {
        x if x.is_subnormal() => single(0f64.copysign(a)),
        _ => single(a),
    });
    let toward_zero = |a: f64| match a as f32 {
        x if (x as f64).abs() > a.abs() => x.to_bits() as u64 - 1,
        _ => single(a),
    };
    check_bits(&word("cvt.rz.f32.f64"), |[a, ..]| toward_zero(a));
    let half = |op: &str| format!("{op} %h0, %fa;\ncvt.u64.u16 %rd0, %h0;");
    check_bits(&half("cvt.rn.f16.f64"), |[a, ..]| {
        nearest(a, f16::from_f64(a).to_bits(), |x| match f16::from_bits(x) {
            x if x.is_infinite() => 2f64.powi(16).copysign(x.to_f64()),
            x => x.to_f64(),
        })
    });
    check_bits(&half("cvt.rn.bf16.f64"), |[a, ..]| {
        nearest(a, bf16::from_f64(a).to_bits(), |x| {
            match bf16::from_bits(x) {
                x if x.is_infinite() => 2f64.powi(128).copysign(x.to_f64()),
                x => x.to_f64(),
            }
        })
    });
    // From the low bits of numbers, whatever they are.
    check(
        "cvt.u32.u64 %r0, %ra;\nmov.b32 %f0, %r0;\ncvt.f64.f32 %fd0, %f0;",
        |[a, ..]| f32::from_bits(a.to_bits() as u32) as f64,
    );
    check(
        "cvt.u16.u64 %h0, %ra;\ncvt.f64.f16 %fd0, %h0;",
        |[a, ..]| f16::from_bits(a.to_bits() as u16).to_f64(),
    );
    check(
        "cvt.u16.u64 %h0, %ra;\ncvt.f64.bf16 %fd0, %h0;",
        |[a, ..]| bf16::from_bits(a.to_bits() as u16).to_f64(),
    );
    check("cvt.rni.f64.f64 %fd0, %fa;", |[a, ..]| a.round_ties_even());
    check("cvt.rmi.f64.f64 %fd0, %fa;", |[a, ..]| a.floor());
    check("cvt.sat.f64.f64 %fd0, %fa;", |[a, ..]| {
        if a > 0.0 { a.min(1.0) } else { 0.0 }
    });
}

/// Rust's casts saturate; a NaN gives the top bit alone.
#[test]
fn from_and_to_integers() {
    let nan = |x: f64, top: u64, v: u64| if x.is_nan() { top } else { v };
    check_bits("cvt.rzi.s64.f64 %rd0, %fa;", |[a, ..]| {
        nan(a, 1 << 63, a as i64 as u64)
    });
    check_bits("cvt.rni.u64.f64 %rd0, %fa;", |[a, ..]| {
        nan(a, 1 << 63, a.round_ties_even() as u64)
    });
    check_bits(
        "cvt.rzi.s32.f64 %r0, %fa;\ncvt.s64.s32 %rd0, %r0;",
        |[a, ..]| nan(a, i32::MIN as i64 as u64, a as i32 as i64 as u64),
    );
    check_bits(
        "cvt.rpi.u32.f64 %r0, %fa;\ncvt.u64.u32 %rd0, %r0;",
        |[a, ..]| nan(a, 1 << 31, a.ceil() as u32 as u64),
    );
    // The bits of the numbers as integers: some of more than 53 bits.
    check("cvt.rn.f64.s64 %fd0, %ra;", |[a, ..]| {
        a.to_bits() as i64 as f64
    });
    check("cvt.rn.f64.u64 %fd0, %ra;", |[a, ..]| a.to_bits() as f64);
    check(
        "cvt.u32.u64 %r0, %ra;\ncvt.rn.f64.s32 %fd0, %r0;",
        |[a, ..]| a.to_bits() as i32 as f64,
    );
    check(
        "cvt.u32.u64 %r0, %ra;\ncvt.rn.f64.u32 %fd0, %r0;",
        |[a, ..]| a.to_bits() as u32 as f64,
    );
}

/// Half the distance to the next f64: even wins, whatever the lower bits of the integer were rounded to on the way.
#[test]
fn integers_round_once() {
    let bits = [
        (1u64 << 54) + 2,
        (1 << 54) + 6,
        (1 << 62) + (1 << 9) + 1,
        u64::MAX,
    ];
    let inputs = bits.map(|b| [f64::from_bits(b), 0.0, 0.0]);
    let found = run("cvt.rn.f64.u64 %fd0, %ra;", &inputs).unwrap();
    let expected = [
        2f64.powi(54),
        2f64.powi(54) + 8.0,
        2f64.powi(62) + 1024.0,
        2f64.powi(64),
    ];
    assert_eq!(found, expected.map(f64::to_bits));
}

#[test]
fn atomics_and_shared_memory() {
    let source = format!(
        "{HEAD}.global .align 8 .f64 start = 0d4000000000000000;
.visible .entry k(.param .u64 out)
{{
.reg .b32 %r<4>;
.reg .b64 %rd<4>;
.reg .f64 %fd<4>;
.shared .align 8 .f64 sm[32];
ld.param.u64 %rd0, [out];
mov.u32 %r0, %tid.x;
mov.u32 %r1, sm;
mad.lo.u32 %r1, %r0, 8, %r1;
cvt.rn.f64.u32 %fd0, %r0;
st.shared.f64 [%r1], %fd0;
ld.shared.f64 %fd1, [%r1];
ld.global.f64 %fd2, [start];
mul.f64 %fd1, %fd1, %fd2;
atom.global.add.f64 %fd3, [%rd0], %fd1;
st.global.v2.f64 [%rd0+16], {{%fd1, %fd2}};
ret;
}}
"
    );
    let mut dev = Device::new();
    let out = dev.upload(&[0.5f64, 0.0, 0.0, 0.0]);
    launch(&mut dev, &source, &block(32), &[out.into()]).unwrap_or_else(|e| panic!("{e}"));
    let sum = 0.5 + 2.0 * (31.0 * 32.0 / 2.0);
    assert_eq!(dev.download::<f64>(out).unwrap(), [sum, 0.0, 62.0, 2.0]);
}

#[test]
fn unsupported() {
    let refused = [
        "add.rz.f64 %fd0, %fa, %fb;",
        "mul.rp.f64 %fd0, %fa, %fb;",
        "fma.rm.f64 %fd0, %fa, %fb, %fc;",
        "div.rz.f64 %fd0, %fa, %fb;",
        "sqrt.rz.f64 %fd0, %fa;",
        "rcp.approx.ftz.f64 %fd0, %fa;",
        "rsqrt.approx.f64 %fd0, %fa;",
        "ex2.approx.f64 %fd0, %fa;",
        "add.sat.f64 %fd0, %fa, %fb;",
        "min.NaN.f64 %fd0, %fa, %fb;",
        "setp.lt.ftz.f64 %p0, %fa, %fb;",
        "cvt.rz.f64.s64 %fd0, %ra;",
        "cvt.rn.relu.f16.f64 %h0, %fa;",
        "cvt.rn.satfinite.f16.f64 %h0, %fa;",
        "mov.f64 %fd0, 0f3F800000;",
        "add.s64 %rd0, %ra, 0.5;",
    ];
    for body in refused {
        let error = run(body, &[[0.0; 3]]).expect_err(body).message;
        assert!(
            error.contains("unsupported") || error.contains("constant"),
            "{body}: {error}"
        );
    }
}
