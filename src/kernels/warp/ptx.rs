//! Instructions of a warp that CubeCL has no word for, one small function each.
//!
//! What the text may rely on:
//! - An operand is passed by [`value`], or a mutable variable would be passed by its address.
//! - An operand that the text does not name is an error, so texts that number their registers begin with a comment that
//!   names every operand. A vector is one register an element, numbered on; its size must be a power of two, and
//!   registers beyond those that are used are never named.
//! - A register that an instruction in flight reads or writes must be threaded through every block until the wait: a
//!   block takes the old value as input and moves it to its output, and the assembler removes the moves.

use cubecl::intrinsic;
use cubecl::prelude::*;

/// A 16-bit storage type that tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Half::F16 => "f16",
            Half::Bf16 => "bf16",
        }
    }
}

/// The value in a variable.
#[cube]
pub(crate) fn value<T: CubePrimitive>(variable: T) -> T {
    intrinsic!(|scope| variable.read_value(scope).into())
}

// ---- registers ---------------------------------------------------------------------------------------------------

/// `%first, %first+1, …`
pub(crate) fn registers(first: usize, count: usize) -> String {
    let names: Vec<_> = (first..first + count).map(|i| format!("%{i}")).collect();
    names.join(", ")
}

/// Text that moves `count` registers.
pub(crate) fn moves(to: usize, from: usize, count: usize) -> String {
    let pairs = (0..count).map(|i| format!("mov.b32 %{}, %{};\n", to + i, from + i));
    pairs.collect()
}

/// `x` of the warp's first lane: what the compiler then knows to be the same in the whole warp.
#[cube]
pub(crate) fn uniform(x: u32) -> u32 {
    let x = value::<u32>(x);
    let out: u32;
    gpu_asm!("shfl.sync.idx.b32 {out}, {x}, 0, 31, 0xffffffff;", out = out(_) out, x = in(_) x, options(nomem));
    out
}

/// `x` of the lane whose number differs in the bits of `mask`.
#[cube]
fn exchange(x: f32, #[comptime] mask: u32) -> f32 {
    let x = value::<f32>(x);
    let out: f32;
    gpu_asm!("shfl.sync.bfly.b32 {out}, {x}, {mask}, 31, 0xffffffff;", out = out(_) out, x = in(_) x, options(nomem));
    out
}

/// The same for a word.
#[cube]
pub(crate) fn exchange_word(x: u32, #[comptime] mask: u32) -> u32 {
    let x = value::<u32>(x);
    let out: u32;
    gpu_asm!("shfl.sync.bfly.b32 {out}, {x}, {mask}, 31, 0xffffffff;", out = out(_) out, x = in(_) x, options(nomem));
    out
}

/// The greatest `x` of four neighbouring lanes, in all of them.
#[cube]
pub(crate) fn quad_max(x: f32) -> f32 {
    let pair = max(x, exchange(x, 1u32));
    max(pair, exchange(pair, 2u32))
}

/// The sum of `x` over four neighbouring lanes, in all of them.
#[cube]
pub(crate) fn quad_sum(x: f32) -> f32 {
    let pair = x + exchange(x, 1u32);
    pair + exchange(pair, 2u32)
}

/// Whether `x` is below one in any lane of the warp.
#[cube]
pub(crate) fn any_below_one(x: f32) -> bool {
    let x = value::<f32>(x);
    let out: u32;
    gpu_asm!("{{\n.reg .pred p;\nsetp.lt.f32 p, {x}, 0f3F800000;\nvote.sync.any.pred p, p, 0xffffffff;\nselp.b32 {out}, 1, 0, p;\n}}",
        out = out(_) out, x = in(_) x, options(nomem));
    out != 0u32
}

// ---- approximate functions, a few units in the last place of f32 ------------------------------------------------

/// `2^x`
#[cube]
pub(crate) fn exp2(x: f32) -> f32 {
    let x = value::<f32>(x);
    let out: f32;
    gpu_asm!("ex2.approx.ftz.f32 {out}, {x};", out = out(_) out, x = in(_) x, options(nomem));
    out
}

#[cube]
pub(crate) fn log2(x: f32) -> f32 {
    let x = value::<f32>(x);
    let out: f32;
    gpu_asm!("lg2.approx.ftz.f32 {out}, {x};", out = out(_) out, x = in(_) x, options(nomem));
    out
}

#[cube]
pub(crate) fn reciprocal(x: f32) -> f32 {
    let x = value::<f32>(x);
    let out: f32;
    gpu_asm!("rcp.approx.ftz.f32 {out}, {x};", out = out(_) out, x = in(_) x, options(nomem));
    out
}

#[cube]
pub(crate) fn inverse_sqrt(x: f32) -> f32 {
    let x = value::<f32>(x);
    let out: f32;
    gpu_asm!("rsqrt.approx.ftz.f32 {out}, {x};", out = out(_) out, x = in(_) x, options(nomem));
    out
}

/// Two numbers rounded to 16 bits, `low` in the lower half.
#[cube]
pub(crate) fn pack(low: f32, high: f32, #[comptime] half: Half) -> u32 {
    let name = comptime!(half.name());
    let (low, high) = (value::<f32>(low), value::<f32>(high));
    let out: u32;
    gpu_asm!("cvt.rn.{name}x2.f32 {out}, {high}, {low};", out = out(_) out, high = in(_) high, low = in(_) low, options(nomem));
    out
}

// ---- shared memory by address -----------------------------------------------------------------------------------

/// Writes four numbers at a multiple of 16.
#[cube]
pub(crate) fn store4_shared(at: u32, x0: f32, x1: f32, x2: f32, x3: f32) {
    let (at, x0, x1, x2, x3) = (
        value::<u32>(at),
        value::<f32>(x0),
        value::<f32>(x1),
        value::<f32>(x2),
        value::<f32>(x3),
    );
    gpu_asm!("st.shared.v4.f32 [{at}], {{{x0}, {x1}, {x2}, {x3}}};",
        at = in(_) at, x0 = in(_) x0, x1 = in(_) x1, x2 = in(_) x2, x3 = in(_) x3,
        options(explicit_mem, writes_address_space shared));
}

/// Reads four numbers at a multiple of 16.
#[cube]
pub(crate) fn load4_shared<N: Size>(at: u32) -> Vector<f32, N> {
    let at = value::<u32>(at);
    let out: Vector<f32, N>;
    gpu_asm!("ld.shared.v4.f32 {out}, [{at}];", out = out(_) out, at = in(_) at,
        options(explicit_mem, reads_address_space shared));
    out
}

/// Reads two numbers at `at + skip`, a multiple of 8.
#[cube]
pub(crate) fn load2_shared<N: Size>(at: u32, #[comptime] skip: usize) -> Vector<f32, N> {
    let at = value::<u32>(at);
    let out: Vector<f32, N>;
    gpu_asm!("ld.shared.v2.f32 {out}, [{at} + {skip}];", out = out(_) out, at = in(_) at,
        options(explicit_mem, reads_address_space shared));
    out
}

#[cube]
pub(crate) fn store_shared(at: u32, x: f32) {
    let (at, x) = (value::<u32>(at), value::<f32>(x));
    gpu_asm!("st.shared.f32 [{at}], {x};", at = in(_) at, x = in(_) x,
        options(explicit_mem, writes_address_space shared));
}

#[cube]
pub(crate) fn load_shared(at: u32) -> f32 {
    let at = value::<u32>(at);
    let out: f32;
    gpu_asm!("ld.shared.f32 {out}, [{at}];", out = out(_) out, at = in(_) at,
        options(explicit_mem, reads_address_space shared));
    out
}

// ---- barriers of a cube, by number ----------------------------------------------------------------------------------

/// Waits until `threads` threads have come to barrier `id`, 1 to 15.
#[cube]
pub(crate) fn meet(#[comptime] id: u32, #[comptime] threads: u32) {
    gpu_asm!("bar.sync {id}, {threads};",
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
}

/// The same for a barrier that is known at run time.
#[cube]
pub(crate) fn meet_at(id: u32, #[comptime] threads: u32) {
    let id = value::<u32>(id);
    gpu_asm!("bar.sync {id}, {threads};", id = in(_) id,
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
}

/// Comes to barrier `id` and goes on.
#[cube]
pub(crate) fn pass_by(id: u32, #[comptime] threads: u32) {
    let id = value::<u32>(id);
    gpu_asm!("bar.arrive {id}, {threads};", id = in(_) id,
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
}
