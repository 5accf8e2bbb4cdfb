//! wmma: matrices whose layout over the lanes is not the program's business.

use super::Decoded;
use super::matrices::{numbers, registers};
use super::opcode::Opcode;
use super::operands::Decoder;
use crate::ir::*;
use crate::ty::Ty;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    A,
    B,
    Accumulator,
}

type Shape = (usize, usize, usize);

/// Those of 16-bit numbers.
const SHAPES: [Shape; 3] = [(16, 16, 16), (32, 8, 16), (8, 32, 16)];

const TF32_SHAPE: Shape = (16, 16, 8);

pub fn decode(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    match o.first() {
        "load" => load(d, o),
        "store" => store(d, o),
        "mma" => product(d, o),
        _ => Err("unsupported instruction".into()),
    }
}

/// M, N and K of `m16n16k8`.
fn shape(o: &Opcode) -> Decoded<Shape> {
    let shape = o.find(|modifier| {
        let (m, rest) = modifier.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some((m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
    });
    shape.ok_or_else(|| "unsupported shape".into())
}

/// A matrix without its registers, and how many they are.
fn fragment(role: Role, number: Number, shape: Shape) -> Decoded<(Fragment, usize)> {
    let known = match (role, number) {
        (Role::Accumulator, Number::F32) => shape == TF32_SHAPE || SHAPES.contains(&shape),
        (Role::Accumulator, Number::F16) => SHAPES.contains(&shape),
        (Role::Accumulator, _) | (_, Number::F32) => false,
        (_, Number::TF32) => shape == TF32_SHAPE,
        (_, Number::F16 | Number::BF16) => SHAPES.contains(&shape),
    };
    if !known {
        return Err("unsupported shape or types".into());
    }
    let (m, n, k) = shape;
    let (rows, columns) = match role {
        Role::A => (m, k),
        Role::B => (k, n),
        Role::Accumulator => (m, n),
    };
    // A and B of f16 have eight registers in every shape.
    let count = match (role, number) {
        (Role::A | Role::B, Number::F16) => 8,
        _ => rows * columns / 32 / number.per_register(),
    };
    let fragment = Fragment {
        rows,
        columns,
        number,
        registers: vec![],
    };
    Ok((fragment, count))
}

fn read(d: &mut Decoder, i: usize, (fragment, n): (Fragment, usize)) -> Decoded<Fragment> {
    let registers = registers(d.srcs(i, Ty::B32)?, n)?;
    Ok(Fragment {
        registers,
        ..fragment
    })
}

fn written(d: &mut Decoder, (fragment, n): (Fragment, usize)) -> Decoded<Fragment> {
    let registers = registers(d.dsts(0)?, n)?;
    Ok(Fragment {
        registers,
        ..fragment
    })
}

/// Whether each is by columns.
fn layouts(o: &Opcode) -> Vec<bool> {
    o.all(|m| match m {
        "row" => Some(false),
        "col" => Some(true),
        _ => None,
    })
}

/// A fragment on its way from or to `addr`.
fn copy(d: &mut Decoder, o: &Opcode, addr: usize, fragment: Fragment) -> Decoded<WmmaCopy> {
    let [by_columns] = layouts(o)[..] else {
        return Err("a layout is missing".into());
    };
    let space = o.space();
    if !matches!(space, Space::Global | Space::Shared | Space::Generic) {
        return Err("unsupported space".into());
    }
    Ok(WmmaCopy {
        fragment,
        by_columns,
        space,
        addr: d.addr(addr)?,
        stride: match d.count() {
            2 => None,
            _ => Some(d.src(2, Ty::B32)?),
        },
    })
}

fn load(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let role = o.find(|m| match m {
        "a" => Some(Role::A),
        "b" => Some(Role::B),
        "c" => Some(Role::Accumulator),
        _ => None,
    });
    let (Some(role), [number]) = (role, &numbers(o)[..]) else {
        return Err("unsupported types".into());
    };
    let fragment = written(d, fragment(role, *number, shape(o)?)?)?;
    Ok(Op::WmmaLoad(Box::new(copy(d, o, 1, fragment)?)))
}

fn store(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (true, [number]) = (o.has("d"), &numbers(o)[..]) else {
        return Err("unsupported types".into());
    };
    let fragment = read(d, 1, fragment(Role::Accumulator, *number, shape(o)?)?)?;
    Ok(Op::WmmaStore(Box::new(copy(d, o, 0, fragment)?)))
}

fn product(d: &mut Decoder, o: &Opcode) -> Decoded<Op> {
    let (td, factors, tc) = match numbers(o)[..] {
        [td, tc] => (td, Number::F16, tc),
        [
            Number::F32,
            ta @ (Number::BF16 | Number::TF32),
            tb,
            Number::F32,
        ] if ta == tb => (Number::F32, ta, Number::F32),
        _ => return Err("unsupported types".into()),
    };
    if layouts(o).len() != 2 {
        return Err("a layout is missing".into());
    }
    // Fragments are the same in both layouts.
    let shape = shape(o)?;
    Ok(Op::Wmma(Box::new(Wmma {
        a: read(d, 1, fragment(Role::A, factors, shape)?)?,
        b: read(d, 2, fragment(Role::B, factors, shape)?)?,
        c: read(d, 3, fragment(Role::Accumulator, tc, shape)?)?,
        d: written(d, fragment(Role::Accumulator, td, shape)?)?,
    })))
}
