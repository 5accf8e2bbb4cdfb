//! Integer instructions, one by one.
use crate::common::{check, check2, pairs, per_lane};

/// Small ones, large ones, and the limits of each width.
fn numbers() -> Vec<[u32; 3]> {
    pairs(&[
        0,
        1,
        2,
        3,
        5,
        31,
        32,
        33,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x1_0000,
        0x1234_5678,
        0x7fff_ffff,
        0x8000_0000,
        0x8000_0001,
        0xdead_beef,
        0xffff_fff0,
        0xffff_ffff,
    ])
}

#[test]
fn addition_and_multiplication() {
    let n = &numbers();
    check("add.s32 %d, %a, %b;", n, |a, b, _| a.wrapping_add(b));
    check("sub.s32 %d, %a, -7;", n, |a, _, _| a.wrapping_add(7));
    check("mul.lo.s32 %d, %a, %b;", n, |a, b, _| a.wrapping_mul(b));
    check("mul.hi.u32 %d, %a, %b;", n, |a, b, _| {
        ((a as u64 * b as u64) >> 32) as u32
    });
    check("mul.hi.s32 %d, %a, %b;", n, |a, b, _| {
        ((a as i32 as i64 * b as i32 as i64) >> 32) as u32
    });
    check("mad.lo.s32 %d, %a, %b, %c;", n, |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    check("mad.hi.u32 %d, %a, %b, %c;", n, |a, b, c| {
        (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c)
    });
    check("neg.s32 %d, %a;", n, |a, _, _| a.wrapping_neg());
    check("abs.s32 %d, %a;", n, |a, _, _| (a as i32).unsigned_abs());
}

#[test]
fn division() {
    let n: Vec<_> = numbers().into_iter().filter(|n| n[1] != 0).collect();
    check("div.u32 %d, %a, %b;", &n, |a, b, _| a / b);
    check("rem.u32 %d, %a, %b;", &n, |a, b, _| a % b);
    check("div.s32 %d, %a, %b;", &n, |a, b, _| {
        (a as i32).wrapping_div(b as i32) as u32
    });
    check("rem.s32 %d, %a, %b;", &n, |a, b, _| {
        (a as i32).wrapping_rem(b as i32) as u32
    });
}

#[test]
fn minimum_and_maximum() {
    let n = &numbers();
    check("min.s32 %d, %a, %b;", n, |a, b, _| {
        (a as i32).min(b as i32) as u32
    });
    check("min.u32 %d, %a, %b;", n, |a, b, _| a.min(b));
    check("max.s32 %d, %a, %b;", n, |a, b, _| {
        (a as i32).max(b as i32) as u32
    });
    check("max.u32 %d, %a, %b;", n, |a, b, _| a.max(b));
}

#[test]
fn bits() {
    let n = &numbers();
    check("and.b32 %d, %a, %b;", n, |a, b, _| a & b);
    check("or.b32 %d, %a, %b;", n, |a, b, _| a | b);
    check("xor.b32 %d, %a, %b;", n, |a, b, _| a ^ b);
    check("not.b32 %d, %a;", n, |a, _, _| !a);
    check("popc.b32 %d, %a;", n, |a, _, _| a.count_ones());
    check("clz.b32 %d, %a;", n, |a, _, _| a.leading_zeros());
    check("brev.b32 %d, %a;", n, |a, _, _| a.reverse_bits());
    check("lop3.b32 %d, %a, %b, %c, 0xe8;", n, |a, b, c| {
        a & b | a & c | b & c
    });
    check("lop3.b32 %d, %a, %b, %c, 0x96;", n, |a, b, c| a ^ b ^ c);
    check("lop3.b32 %d, %a, %b, %c, 0x10;", n, |a, b, c| a & !b & !c);
}

/// Distances beyond the width count as the width.
#[test]
fn shifts() {
    let n = &numbers();
    check("shl.b32 %d, %a, %b;", n, |a, b, _| {
        a.checked_shl(b).unwrap_or(0)
    });
    check("shr.u32 %d, %a, %b;", n, |a, b, _| {
        a.checked_shr(b).unwrap_or(0)
    });
    check("shr.s32 %d, %a, %b;", n, |a, b, _| {
        ((a as i32) >> b.min(31)) as u32
    });
    let both = |a: u32, b: u32| (b as u64) << 32 | a as u64;
    check("shf.l.wrap.b32 %d, %a, %b, %c;", n, |a, b, c| {
        (both(a, b) << (c & 31) >> 32) as u32
    });
    check("shf.r.wrap.b32 %d, %a, %b, %c;", n, |a, b, c| {
        (both(a, b) >> (c & 31)) as u32
    });
    check("shf.l.clamp.b32 %d, %a, %b, %c;", n, |a, b, c| match c {
        0..32 => (both(a, b) << c >> 32) as u32,
        _ => a,
    });
    check("shf.r.clamp.b32 %d, %a, %b, %c;", n, |a, b, c| match c {
        0..32 => (both(a, b) >> c) as u32,
        _ => b,
    });
}

#[test]
fn fields() {
    let n = &numbers();
    for (position, length) in [
        (0, 0),
        (0, 32),
        (5, 9),
        (28, 9),
        (31, 1),
        (32, 4),
        (40, 40),
        (0, 255),
    ] {
        let field = |a: u64, fill: bool| {
            let ones = if length >= 64 {
                u64::MAX
            } else {
                (1 << length) - 1
            };
            let shifted = if position >= 32 {
                if fill { u64::MAX } else { 0 }
            } else {
                a >> position
            };
            (shifted & ones, ones)
        };
        check(
            &format!("bfe.u32 %d, %a, {position}, {length};"),
            n,
            |a, _, _| field(a as u64, false).0 as u32,
        );
        check(
            &format!("bfe.s32 %d, %a, {position}, {length};"),
            n,
            |a, _, _| {
                if length == 0 {
                    return 0;
                }
                let negative = a >> (position + length - 1).min(31) & 1 == 1;
                let (bits, ones) = field(a as i32 as u64, (a as i32) < 0);
                (if negative { bits | !ones } else { bits }) as u32
            },
        );
        check(
            &format!("bfi.b32 %d, %a, %b, {position}, {length};"),
            n,
            |a, b, _| {
                let bits = (0..32).filter(|i| (position..position + length).contains(i));
                bits.fold(b, |r, i| r & !(1 << i) | (a >> (i - position) & 1) << i)
            },
        );
    }
}

#[test]
fn permutations() {
    let n = &numbers();
    for selector in [0x5410u32, 0x7632, 0x3210, 0x0123, 0x4567, 0xba98, 0xfedc] {
        check(
            &format!("prmt.b32 %d, %a, %b, {selector};"),
            n,
            |a, b, _| {
                let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
                (0..4).fold(0, |r, i| {
                    let s = selector >> (4 * i) & 15;
                    let byte = bytes[s as usize & 7];
                    let byte = if s & 8 == 0 {
                        byte
                    } else if byte & 0x80 == 0 {
                        0
                    } else {
                        0xff
                    };
                    r | (byte as u32) << (8 * i)
                })
            },
        );
    }
}

#[test]
fn sixteen_bits() {
    let n = &numbers();
    let halves = "cvt.u16.u32 %h1, %a;\ncvt.u16.u32 %h2, %b;\n";
    let whole = "cvt.u32.u16 %d, %h3;";
    let check16 = |op: &str, f: &dyn Fn(u16, u16) -> u16| {
        check(
            &format!("{halves}{op} %h3, %h1, %h2;\n{whole}"),
            n,
            |a, b, _| f(a as u16, b as u16) as u32,
        );
    };
    check16("add.s16", &|a, b| a.wrapping_add(b));
    check16("sub.s16", &|a, b| a.wrapping_sub(b));
    check16("mul.lo.s16", &|a, b| a.wrapping_mul(b));
    check16("mul.hi.u16", &|a, b| ((a as u32 * b as u32) >> 16) as u16);
    check16("mul.hi.s16", &|a, b| {
        ((a as i16 as i32 * b as i16 as i32) >> 16) as u16
    });
    check16("min.s16", &|a, b| (a as i16).min(b as i16) as u16);
    check16("max.u16", &|a, b| a.max(b));
    check16("or.b16", &|a, b| a | b);
    check(
        &format!("{halves}shl.b16 %h3, %h1, %b;\n{whole}"),
        n,
        |a, b, _| if b < 16 { (a << b) & 0xffff } else { 0 },
    );
    check(
        &format!("{halves}shr.s16 %h3, %h1, %b;\n{whole}"),
        n,
        |a, b, _| (a as i16 >> b.min(15)) as u16 as u32,
    );
    check(
        &format!("{halves}mul.wide.u16 %d, %h1, %h2;"),
        n,
        |a, b, _| (a & 0xffff) * (b & 0xffff),
    );
    check(
        &format!("{halves}mul.wide.s16 %d, %h1, %h2;"),
        n,
        |a, b, _| (a as i16 as i32 * b as i16 as i32) as u32,
    );
    check(
        &format!("{halves}neg.s16 %h3, %h1;\n{whole}"),
        n,
        |a, _, _| (a as u16).wrapping_neg() as u32,
    );
}

#[test]
fn sixty_four_bits() {
    let n = &numbers();
    let wide = "mov.b64 %rd1, {%a, %b};\nmov.b64 %rd2, {%c, %a};\n";
    let check64 = |op: &str, f: &dyn Fn(u64, u64) -> u64| {
        check2(
            &format!("{wide}{op}\nmov.b64 {{%d, %e}}, %rd3;"),
            n,
            |a, b, c| {
                let v = f((b as u64) << 32 | a as u64, (a as u64) << 32 | c as u64);
                [v as u32, (v >> 32) as u32]
            },
        );
    };
    check64("add.s64 %rd3, %rd1, %rd2;", &|x, y| x.wrapping_add(y));
    check64("sub.s64 %rd3, %rd1, %rd2;", &|x, y| x.wrapping_sub(y));
    check64("mul.lo.s64 %rd3, %rd1, %rd2;", &|x, y| x.wrapping_mul(y));
    check64("mul.hi.u64 %rd3, %rd1, %rd2;", &|x, y| {
        ((x as u128 * y as u128) >> 64) as u64
    });
    check64("mul.hi.s64 %rd3, %rd1, %rd2;", &|x, y| {
        ((x as i64 as i128 * y as i64 as i128) >> 64) as u64
    });
    check64("mad.lo.s64 %rd3, %rd1, %rd2, %rd2;", &|x, y| {
        x.wrapping_mul(y).wrapping_add(y)
    });
    check64("min.s64 %rd3, %rd1, %rd2;", &|x, y| {
        (x as i64).min(y as i64) as u64
    });
    check64("max.u64 %rd3, %rd1, %rd2;", &|x, y| x.max(y));
    check64("and.b64 %rd3, %rd1, %rd2;", &|x, y| x & y);
    check64("not.b64 %rd3, %rd1;", &|x, _| !x);
    check64("neg.s64 %rd3, %rd1;", &|x, _| x.wrapping_neg());
    check64("shl.b64 %rd3, %rd1, 9;", &|x, _| x << 9);
    check64("shl.b64 %rd3, %rd1, 64;", &|_, _| 0);
    check64("shr.u64 %rd3, %rd1, 33;", &|x, _| x >> 33);
    check64("shr.s64 %rd3, %rd1, 70;", &|x, _| (x as i64 >> 63) as u64);
    check64("bfi.b64 %rd3, %rd1, %rd2, 30, 20;", &|x, y| {
        let mask = ((1u64 << 20) - 1) << 30;
        y & !mask | x << 30 & mask
    });
    check64(
        "mov.b64 {%r1, %r2}, %rd1;\nmul.wide.u32 %rd3, %r1, %r2;",
        &|x, _| (x & 0xffff_ffff) * (x >> 32),
    );
    check64(
        "mov.b64 {%r1, %r2}, %rd1;\nmul.wide.s32 %rd3, %r1, %r2;",
        &|x, _| (x as i32 as i64 * (x >> 32) as i32 as i64) as u64,
    );
    check64(
        "mov.b64 {%r1, %r2}, %rd1;\nmad.wide.s32 %rd3, %r1, %r2, %rd2;",
        &|x, y| ((x as i32 as i64 * (x >> 32) as i32 as i64) as u64).wrapping_add(y),
    );
    check64(
        "setp.lt.s64 %p1, %rd1, %rd2;\nselp.b64 %rd3, %rd1, %rd2, %p1;",
        &|x, y| (x as i64).min(y as i64) as u64,
    );
    let n: Vec<_> = n.iter().copied().filter(|n| n[0] | n[2] != 0).collect();
    check2(
        &format!("{wide}div.u64 %rd3, %rd1, %rd2;\nmov.b64 {{%d, %e}}, %rd3;"),
        &n,
        |a, b, c| {
            let v = ((b as u64) << 32 | a as u64) / ((a as u64) << 32 | c as u64);
            [v as u32, (v >> 32) as u32]
        },
    );
}

#[test]
fn packing() {
    let n = &numbers();
    check(
        "mov.b32 {%h1, %h2}, %a;\nmov.b32 %d, {%h2, %h1};",
        n,
        |a, _, _| a.rotate_left(16),
    );
    check2(
        "mov.b64 %rd1, {%a, %b};\nmov.b64 {%h1, %h2, %h3, %h4}, %rd1;\nmov.b64 %rd2, {%h4, %h3, %h2, %h1};\nmov.b64 {%d, %e}, %rd2;",
        n,
        |a, b, _| [b.rotate_left(16), a.rotate_left(16)],
    );
}

type Comparison = fn(u32, u32) -> bool;

#[test]
fn comparisons() {
    let n = &numbers();
    let cases: [(&str, Comparison); 11] = [
        ("eq.s32", |a, b| a == b),
        ("ne.b32", |a, b| a != b),
        ("lt.s32", |a, b| (a as i32) < b as i32),
        ("le.s32", |a, b| a as i32 <= b as i32),
        ("gt.u32", |a, b| a > b),
        ("ge.u32", |a, b| a >= b),
        ("lo.s32", |a, b| a < b),
        ("ls.u32", |a, b| a <= b),
        ("hi.u32", |a, b| a > b),
        ("hs.u32", |a, b| a >= b),
        ("ge.s32", |a, b| a as i32 >= b as i32),
    ];
    for (op, holds) in cases {
        check2(
            &format!(
                "setp.{op} %p1|%p2, %a, %b;\nselp.u32 %d, 1, 0, %p1;\nselp.u32 %e, 1, 0, %p2;"
            ),
            n,
            |a, b, _| [holds(a, b) as u32, !holds(a, b) as u32],
        );
    }
    check2(
        "setp.gt.u32 %p3, %c, 40;\nsetp.lt.and.s32 %p1|%p2, %a, %b, !%p3;\nselp.u32 %d, 1, 0, %p1;\nselp.u32 %e, 1, 0, %p2;",
        n,
        |a, b, c| {
            let less = (a as i32) < b as i32;
            [(less && c <= 40) as u32, (!less && c <= 40) as u32]
        },
    );
    check(
        "cvt.u16.u32 %h1, %a;\ncvt.u16.u32 %h2, %b;\nsetp.lt.s16 %p1, %h1, %h2;\nselp.u32 %d, %b, %c, %p1;",
        n,
        |a, b, c| {
            if (a as i16) < b as i16 { b } else { c }
        },
    );
}

#[test]
fn predicates() {
    let n = &numbers();
    let set = "setp.gt.s32 %p1, %a, 0;\nsetp.gt.s32 %p2, %b, 0;\n";
    let get = "selp.u32 %d, 1, 0, %p3;";
    let positive = |x: u32| x as i32 > 0;
    for (op, f) in [
        ("and", (|x, y| x & y) as fn(bool, bool) -> bool),
        ("or", |x, y| x | y),
        ("xor", |x, y| x ^ y),
    ] {
        check(
            &format!("{set}{op}.pred %p3, %p1, %p2;\n{get}"),
            n,
            |a, b, _| f(positive(a), positive(b)) as u32,
        );
    }
    check(&format!("{set}not.pred %p3, %p1;\n{get}"), n, |a, _, _| {
        !positive(a) as u32
    });
    check(&format!("{set}mov.pred %p3, %p2;\n{get}"), n, |_, b, _| {
        positive(b) as u32
    });
    check(
        "setp.ne.s32 %p1, 0, 0;\nselp.u32 %d, 1, 0, %p1;",
        n,
        |_, _, _| 0,
    );
}

/// What is not understood is refused rather than ignored.
#[test]
fn unknown_instructions() {
    for (body, message) in [
        ("frobnicate.b32 %d, %a;", "unsupported instruction"),
        ("add.cc.u32 %d, %a, %b;", "unsupported modifier .cc"),
        (
            "min.xorsign.abs.f32 %fa, %fb, %fc;",
            "unsupported modifier .xorsign",
        ),
        ("add.f128 %rd1, %rd2, %rd3;", "no supported type"),
        ("add.u32 %d, %a, %nothing;", "unsupported %nothing"),
        ("add.u32 %d, %a, nothing;", "unknown name nothing"),
        ("bra NOWHERE;", "unknown label NOWHERE"),
        ("add.u32 %d, %a;", "expected more than 2 operands"),
        (
            "add.u32 %p1, %a, %b;",
            "a predicate where a register belongs",
        ),
    ] {
        let error = per_lane(body, &[[0; 3]]).expect_err(body);
        assert!(error.message.contains(message), "{body}: {error}");
        assert_eq!((error.line, error.text.as_str()), (22, body));
    }
}
