//! `cvt`, between all types that kernels use.
use crate::common::{check, check2, pairs, per_lane};
use half::{bf16, f16};

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn floats() -> Vec<[u32; 3]> {
    let numbers = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        -2.5,
        1.0,
        127.6,
        -128.5,
        255.5,
        32767.5,
        65504.0,
        65519.9,
        65520.0,
        65535.6,
        1e9,
        2147483648.0,
        -2147483904.0,
        4294967296.0,
        1e20,
        6e-8,
        5.9e-8,
        2.98e-8,
        3.0e-8,
        1e-40,
        3.39e38,
        f32::MAX,
        -f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1.003_906_3,
        1.011_718_8,
        1.007_8,
        0.1,
        -0.1,
    ];
    pairs(&numbers.map(f32::to_bits))
}

fn integers() -> Vec<[u32; 3]> {
    pairs(&[
        0,
        1,
        127,
        128,
        255,
        256,
        32767,
        32768,
        65535,
        65536,
        16_777_217,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ff80,
        0xffff_ffff,
    ])
}

/// Rust's casts saturate and make 0 of a NaN, as `cvt` to at most 32 bits does.
#[test]
fn float_to_integer() {
    let n = &floats();
    check("cvt.rzi.s32.f32 %d, %fa;", n, |a, _, _| f(a) as i32 as u32);
    check("cvt.rzi.u32.f32 %d, %fa;", n, |a, _, _| f(a) as u32);
    check("cvt.rni.s32.f32 %d, %fa;", n, |a, _, _| {
        f(a).round_ties_even() as i32 as u32
    });
    check("cvt.rmi.s32.f32 %d, %fa;", n, |a, _, _| {
        f(a).floor() as i32 as u32
    });
    check("cvt.rpi.s32.f32 %d, %fa;", n, |a, _, _| {
        f(a).ceil() as i32 as u32
    });
    check(
        "cvt.rzi.u16.f32 %h1, %fa;\ncvt.u32.u16 %d, %h1;",
        n,
        |a, _, _| f(a) as u16 as u32,
    );
    check(
        "cvt.rzi.s16.f32 %h1, %fa;\ncvt.s32.s16 %d, %h1;",
        n,
        |a, _, _| f(a) as i16 as i32 as u32,
    );
    check2(
        "cvt.rzi.s64.f32 %rd1, %fa;\nmov.b64 {%d, %e}, %rd1;",
        n,
        |a, _, _| {
            let v = if f(a).is_nan() { i64::MIN } else { f(a) as i64 };
            [v as u32, (v >> 32) as u32]
        },
    );
}

#[test]
fn integer_to_float() {
    let n = &integers();
    check("cvt.rn.f32.s32 %f1, %a;\nmov.b32 %d, %f1;", n, |a, _, _| {
        (a as i32 as f32).to_bits()
    });
    check("cvt.rn.f32.u32 %f1, %a;\nmov.b32 %d, %f1;", n, |a, _, _| {
        (a as f32).to_bits()
    });
    check("cvt.rz.f32.u32 %f1, %a;\nmov.b32 %d, %f1;", n, |a, _, _| {
        let near = a as f32;
        (if near as f64 > a as f64 {
            near.next_down()
        } else {
            near
        })
        .to_bits()
    });
    check("cvt.rp.f32.u32 %f1, %a;\nmov.b32 %d, %f1;", n, |a, _, _| {
        let near = a as f32;
        (if (near as f64) < a as f64 {
            near.next_up()
        } else {
            near
        })
        .to_bits()
    });
    check(
        "mov.b64 %rd1, {%a, %b};\ncvt.rn.f32.u64 %f1, %rd1;\nmov.b32 %d, %f1;",
        n,
        |a, b, _| (((b as u64) << 32 | a as u64) as f32).to_bits(),
    );
    check(
        "mov.b64 %rd1, {%a, %b};\ncvt.rz.f32.u64 %f1, %rd1;\nmov.b32 %d, %f1;",
        n,
        |a, b, _| {
            let x = (b as u64) << 32 | a as u64;
            let kept = 40u32.saturating_sub(x.leading_zeros());
            ((x >> kept << kept) as f32).to_bits()
        },
    );
    check(
        "cvt.rn.f16.u32 %h1, %a;\ncvt.u32.u16 %d, %h1;",
        n,
        |a, _, _| f16::from_f64(a as f64).to_bits() as u32,
    );
}

#[test]
fn integer_to_integer() {
    let n = &integers();
    check("cvt.s8.s32 %r1, %a;\nmov.b32 %d, %r1;", n, |a, _, _| {
        a as i8 as i32 as u32
    });
    check("cvt.u8.u32 %r1, %a;\nmov.b32 %d, %r1;", n, |a, _, _| {
        a as u8 as u32
    });
    check("cvt.sat.s8.s32 %r1, %a;\nmov.b32 %d, %r1;", n, |a, _, _| {
        (a as i32).clamp(-128, 127) as u32
    });
    check(
        "cvt.sat.u16.s32 %h1, %a;\ncvt.u32.u16 %d, %h1;",
        n,
        |a, _, _| (a as i32).clamp(0, 65535) as u32,
    );
    check(
        "cvt.u16.u32 %h1, %a;\ncvt.s32.s16 %d, %h1;",
        n,
        |a, _, _| a as i16 as i32 as u32,
    );
    check2(
        "cvt.s64.s32 %rd1, %a;\nmov.b64 {%d, %e}, %rd1;",
        n,
        |a, _, _| [a, (a as i32 >> 31) as u32],
    );
    check2(
        "cvt.u64.u32 %rd1, %a;\nmov.b64 {%d, %e}, %rd1;",
        n,
        |a, _, _| [a, 0],
    );
    check(
        "mov.b64 %rd1, {%a, %b};\ncvt.u32.u64 %d, %rd1;",
        n,
        |a, _, _| a,
    );
    check(
        "mov.b64 %rd1, {%a, %b};\ncvt.sat.s32.s64 %d, %rd1;",
        n,
        |a, b, _| {
            let x = ((b as u64) << 32 | a as u64) as i64;
            x.clamp(i32::MIN as i64, i32::MAX as i64) as u32
        },
    );
}

#[test]
fn float_to_float() {
    let n = &floats();
    let single = |op: &str, g: fn(f32) -> f32| {
        check(
            &format!("{op} %f1, %fa;\nmov.b32 %d, %f1;"),
            n,
            |a, _, _| {
                let x = g(f(a));
                if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
            },
        );
    };
    single("cvt.rni.f32.f32", f32::round_ties_even);
    single("cvt.rzi.f32.f32", f32::trunc);
    single("cvt.rmi.f32.f32", f32::floor);
    single("cvt.rpi.f32.f32", f32::ceil);
    single(
        "cvt.sat.f32.f32",
        |x| if x > 0.0 { x.min(1.0) } else { 0.0 },
    );
    single("cvt.ftz.f32.f32", |x| {
        if x.is_subnormal() {
            0f32.copysign(x)
        } else {
            x
        }
    });
    // A half in the low bits, a bfloat16 in the high ones.
    let numbers = &pairs(&[
        0x3f80_3c00,
        0xbf80_bc00,
        0x0001_0001,
        0x7f80_7c00,
        0x8000_8000,
        0x4049_4248,
    ]);
    check2(
        "mov.b32 {%h1, %h2}, %a;\ncvt.f32.f16 %f1, %h1;\ncvt.f32.bf16 %f2, %h2;\nmov.b32 %d, %f1;\nmov.b32 %e, %f2;",
        numbers,
        |a, _, _| [f16::from_bits(a as u16).to_f32().to_bits(), a & 0xffff_0000],
    );
}

fn to_f16(x: f32) -> u32 {
    if x.is_nan() {
        0x7fff
    } else {
        f16::from_f32(x).to_bits() as u32
    }
}

fn to_bf16(x: f32) -> u32 {
    if x.is_nan() {
        0x7fff
    } else {
        bf16::from_f32(x).to_bits() as u32
    }
}

#[test]
fn to_halves() {
    let n = &floats();
    let half = |op: &str, g: &dyn Fn(f32) -> u32| {
        check(
            &format!("{op} %h1, %fa;\ncvt.u32.u16 %d, %h1;"),
            n,
            |a, _, _| g(f(a)),
        );
    };
    half("cvt.rn.f16.f32", &to_f16);
    half("cvt.rn.bf16.f32", &to_bf16);
    half("cvt.rz.bf16.f32", &|x| {
        if x.is_nan() {
            0x7fff
        } else {
            x.to_bits() >> 16
        }
    });
    half("cvt.rn.relu.f16.f32", &|x| {
        if x <= 0.0 { 0 } else { to_f16(x) }
    });
    half("cvt.rn.relu.bf16.f32", &|x| {
        if x <= 0.0 { 0 } else { to_bf16(x) }
    });
    half("cvt.rn.satfinite.f16.f32", &|x| {
        if x.is_nan() {
            0x7fff
        } else {
            to_f16(x.clamp(-65504.0, 65504.0))
        }
    });
    half("cvt.rz.f16.f32", &|x| {
        let near = to_f16(x);
        let away = f16::from_bits(near as u16).to_f64().abs() > x.abs() as f64;
        if away && !x.is_infinite() {
            near - 1
        } else {
            near
        }
    });
}

/// The first source goes to the high half.
#[test]
fn packed() {
    let n = &floats();
    check("cvt.rn.bf16x2.f32 %d, %fa, %fb;", n, |a, b, _| {
        to_bf16(f(a)) << 16 | to_bf16(f(b))
    });
    check("cvt.rn.f16x2.f32 %d, %fa, %fb;", n, |a, b, _| {
        to_f16(f(a)) << 16 | to_f16(f(b))
    });
    check("cvt.rn.relu.bf16x2.f32 %d, %fa, %fb;", n, |a, b, _| {
        let one = |x: f32| if x <= 0.0 { 0 } else { to_bf16(x) };
        one(f(a)) << 16 | one(f(b))
    });
}

/// Ten bits of the mantissa, by arithmetic on exact numbers.
fn to_tf32(x: f32, rounded: fn(f64) -> f64) -> u32 {
    if x.is_nan() || x.is_infinite() || x == 0.0 {
        return if x.is_nan() { 0x7fff_ffff } else { x.to_bits() };
    }
    let exponent = (x.abs() as f64).log2().floor().max(-126.0);
    let unit = 2f64.powi(exponent as i32 - 10);
    // Beyond the greatest number lies infinity, which the next power of two becomes.
    ((rounded(x as f64 / unit) * unit) as f32).to_bits()
}

/// Ties at every position: even and odd last bits, both signs, subnormals, the greatest numbers.
fn near_tf32() -> Vec<[u32; 3]> {
    let tops = [
        0u32,
        0x3f80_0000,
        0x3f80_2000,
        0x3fff_e000,
        0x7f7f_c000,
        0x7f7f_e000,
        0x0040_2000,
    ];
    let rests = [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff];
    let numbers = tops.iter().flat_map(|top| rests.map(|rest| top | rest));
    let both = numbers.flat_map(|x| [[x, 0, 0], [x | 1 << 31, 0, 0]]);
    both.chain(floats()).collect()
}

#[test]
fn to_tf32_numbers() {
    let n = &near_tf32();
    let away = f64::round;
    check("cvt.rna.tf32.f32 %d, %fa;", n, |a, _, _| {
        to_tf32(f(a), away)
    });
    check("cvt.rn.tf32.f32 %d, %fa;", n, |a, _, _| {
        to_tf32(f(a), f64::round_ties_even)
    });
    check("cvt.rz.tf32.f32 %d, %fa;", n, |a, _, _| {
        to_tf32(f(a), f64::trunc)
    });
    check("cvt.rn.relu.tf32.f32 %d, %fa;", n, |a, _, _| match f(a) {
        x if x <= 0.0 => 0,
        x => to_tf32(x, f64::round_ties_even),
    });
    check(
        "cvt.rna.satfinite.tf32.f32 %d, %fa;",
        n,
        |a, _, _| match to_tf32(f(a), away) {
            0x7f80_0000 => 0x7f7f_e000,
            0xff80_0000 => 0xff7f_e000,
            x => x,
        },
    );
    // Halfway between two neighbours of 1, and the first number below.
    let tie = [[0x3f80_1000, 0x3f80_0fff, 0xbf80_1000]];
    check("cvt.rna.tf32.f32 %d, %fa;", &tie, |_, _, _| 0x3f80_2000);
    check("cvt.rna.tf32.f32 %d, %fb;", &tie, |_, _, _| 0x3f80_0000);
    check("cvt.rna.tf32.f32 %d, %fc;", &tie, |_, _, _| 0xbf80_2000);
    check("cvt.rn.tf32.f32 %d, %fa;", &tie, |_, _, _| 0x3f80_0000);
}

#[test]
fn unsupported() {
    for body in [
        "cvt.tf32.f32 %d, %fa;",
        "cvt.rp.tf32.f32 %d, %fa;",
        "cvt.rna.relu.tf32.f32 %d, %fa;",
        "cvt.rn.f32.tf32 %d, %fa;",
        "add.tf32 %d, %fa, %fb;",
    ] {
        let error = per_lane(body, &[[0; 3]]).unwrap_err();
        assert!(error.message.contains("supported"), "{body}: {error}");
    }
    let error = per_lane("cvt.rn.satfinite.e4m3x2.f32 %h1, %fa, %fb;", &[[0; 3]]).unwrap_err();
    assert!(error.message.contains("unsupported"), "{error}");
}
