//! Instructions that CubeCL has no word for, one small function each: all PTX text of the kernels is here.
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

use super::fragment::in_lower_row;

/// A 16-bit storage type that tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    const fn name(self) -> &'static str {
        match self {
            Half::F16 => "f16",
            Half::Bf16 => "bf16",
        }
    }
}

/// The value in a variable.
#[cube]
fn value<T: CubePrimitive>(variable: T) -> T {
    intrinsic!(|scope| variable.read_value(scope).into())
}

// ---- registers ---------------------------------------------------------------------------------------------------

/// `%first, %first+1, …`
fn registers(first: usize, count: usize) -> String {
    let names: Vec<_> = (first..first + count).map(|i| format!("%{i}")).collect();
    names.join(", ")
}

fn moves(to: usize, from: usize, count: usize) -> String {
    let pairs = (0..count).map(|i| format!("mov.b32 %{}, %{};\n", to + i, from + i));
    pairs.collect()
}

/// Sets the registers of every thread of the warpgroup: up to `count` if `more`, else down to it.
#[cube]
pub(crate) fn set_registers(#[comptime] more: bool, #[comptime] count: u32) {
    let direction = comptime!(if more { "inc" } else { "dec" });
    gpu_asm!(
        "setmaxnreg.{direction}.sync.aligned.u32 {count};",
        options(nomem)
    );
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

// ---- barriers ---------------------------------------------------------------------------------------------------

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

/// Makes the 8 bytes at `barrier` a barrier whose phase ends after `arrivals`, and the bytes that they expect.
#[cube]
pub(crate) fn barrier_init(barrier: u32, #[comptime] arrivals: u32) {
    let barrier = value::<u32>(barrier);
    gpu_asm!("mbarrier.init.shared::cta.b64 [{barrier}], {arrivals};", barrier = in(_) barrier,
        options(explicit_mem, writes_address_space shared));
}

/// Lets copies by TMA see barriers that were just made.
#[cube]
pub(crate) fn barrier_init_fence() {
    gpu_asm!(
        "fence.mbarrier_init.release.cluster;",
        options(explicit_mem, writes_address_space shared)
    );
}

/// Arrives, and keeps the phase open until `bytes` more bytes have landed.
#[cube]
pub(crate) fn barrier_expect(barrier: u32, #[comptime] bytes: usize) {
    let barrier = value::<u32>(barrier);
    gpu_asm!("mbarrier.arrive.expect_tx.shared::cta.b64 _, [{barrier}], {bytes};", barrier = in(_) barrier,
        options(explicit_mem, writes_address_space shared));
}

/// Arrives once for the whole warp, which must be together, at this barrier of every cube of the cluster.
#[cube]
pub(crate) fn barrier_arrive(barrier: u32, #[comptime] cubes: usize) {
    let (barrier, lane) = (value::<u32>(barrier), value::<u32>(UNIT_POS % 32u32));
    if comptime!(cubes == 1) {
        gpu_asm!("{{\n.reg .pred p;\nsetp.eq.u32 p, {lane}, 0;\n@p mbarrier.arrive.shared::cta.b64 _, [{barrier}];\n}}",
            barrier = in(_) barrier, lane = in(_) lane,
            options(explicit_mem, writes_address_space shared));
    } else {
        // A lane for each cube.
        gpu_asm!("{{\n.reg .pred p;\n.reg .b32 there;\nsetp.lt.u32 p, {lane}, {cubes};\n@p mapa.shared::cluster.u32 there, {barrier}, {lane};\n@p mbarrier.arrive.shared::cluster.b64 _, [there];\n}}",
            barrier = in(_) barrier, lane = in(_) lane,
            options(explicit_mem, writes_address_space shared));
    }
}

/// Waits for the end of the phase of this `parity`; the phase before the first has parity 1 and has ended.
#[cube]
pub(crate) fn barrier_wait(barrier: u32, parity: u32) {
    let (barrier, parity) = (value::<u32>(barrier), value::<u32>(parity));
    gpu_asm!("{{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [{barrier}], {parity};\n@p bra DONE;\nbra WAIT;\nDONE:\n}}",
        barrier = in(_) barrier, parity = in(_) parity,
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
}

/// Arrives at the barrier of the whole cluster.
#[cube]
pub(crate) fn cluster_arrive() {
    gpu_asm!(
        "barrier.cluster.arrive.release;",
        options(explicit_mem, writes_address_space shared)
    );
}

/// Waits for all threads of the cluster that have not ended.
#[cube]
pub(crate) fn cluster_wait() {
    gpu_asm!(
        "barrier.cluster.wait.acquire;",
        options(explicit_mem, reads_address_space shared, writes_address_space shared)
    );
}

// ---- TMA --------------------------------------------------------------------------------------------------------

/// Where a box begins in a tensor of rank 5.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct BoxStart {
    pub column: i32,
    pub pair: i32,
    pub head: i32,
    pub row: i32,
    pub batch: i32,
}

/// Copies the box of `tensor` that begins at `start` to shared memory at `to`; its bytes count for `barrier`. With more
/// `cubes` than one, to the same place in each cube of the cluster, for the same barrier of each.
#[cube]
pub(crate) fn load_box(
    to: u32,
    tensor: u64,
    barrier: u32,
    start: BoxStart,
    #[comptime] cubes: usize,
) {
    let (to, tensor, barrier) = (
        value::<u32>(to),
        value::<u64>(tensor),
        value::<u32>(barrier),
    );
    let (x, pair, head) = (
        value::<i32>(start.column),
        value::<i32>(start.pair),
        value::<i32>(start.head),
    );
    let (row, batch) = (value::<i32>(start.row), value::<i32>(start.batch));
    if comptime!(cubes == 1) {
        gpu_asm!("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [{to}], [{tensor}, {{{x}, {pair}, {head}, {row}, {batch}}}], [{barrier}];",
            to = in(_) to, tensor = in(_) tensor, barrier = in(_) barrier,
            x = in(_) x, pair = in(_) pair, head = in(_) head, row = in(_) row, batch = in(_) batch,
            options(explicit_mem, writes_address_space shared));
    } else {
        let mask = comptime!((1u32 << cubes) - 1);
        gpu_asm!("{{\n.reg .b16 cubes;\nmov.b16 cubes, {mask};\ncp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [{to}], [{tensor}, {{{x}, {pair}, {head}, {row}, {batch}}}], [{barrier}], cubes;\n}}",
            to = in(_) to, tensor = in(_) tensor, barrier = in(_) barrier,
            x = in(_) x, pair = in(_) pair, head = in(_) head, row = in(_) row, batch = in(_) batch,
            options(explicit_mem, writes_address_space shared));
    }
}

// ---- tensor cores -----------------------------------------------------------------------------------------------
// Operands in shared memory are panels of 64 columns (128 bytes) in the 128-byte swizzle, as TMA writes them, or values of
// 32 (64 bytes) in the 64-byte swizzle; eight rows of a panel begin at a multiple of their size. Descriptors count in units
// of 16 bytes.

/// Unit of a descriptor's addresses and distances, in bytes.
pub(crate) const UNIT: usize = 16;
/// A row of a panel of 64 columns, in bytes.
pub(crate) const WHOLE_ROW: usize = 128;

const fn descriptor_bits(leading: usize, row: usize) -> u64 {
    let swizzle = if row == WHOLE_ROW { 1 << 62 } else { 2 << 62 };
    ((leading / UNIT) as u64) << 16 | ((8 * row / UNIT) as u64) << 32 | swizzle
}

/// Descriptor of an operand whose rows are those of the product's result and whose columns are summed over.
#[cube]
pub(crate) fn descriptor_rows(at: u32) -> u64 {
    u64::cast_from((at & 0x3FFFFu32) >> 4u32) | comptime!(descriptor_bits(UNIT, WHOLE_ROW))
}

/// Descriptor of a right operand whose rows are summed over; `panel` is the distance of its panels and `row` the length of
/// their rows, in bytes.
#[cube]
pub(crate) fn descriptor_columns(at: u32, #[comptime] panel: usize, #[comptime] row: usize) -> u64 {
    u64::cast_from((at & 0x3FFFFu32) >> 4u32) | comptime!(descriptor_bits(panel, row))
}

/// Comptime shape of a product of a warpgroup, 64 rows of `columns` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub columns: usize,
    /// Length of the sums, a multiple of 16.
    pub depth: usize,
    pub half: Half,
}

impl Product {
    /// Registers of a thread for the result.
    pub(crate) const fn registers(&self) -> usize {
        self.columns / 2
    }

    /// The same as a size of a vector.
    pub(crate) const fn vector(&self) -> usize {
        self.registers().next_power_of_two()
    }

    /// Size of a vector for a left operand in registers.
    pub(crate) const fn left_vector(&self) -> usize {
        (self.depth / 4).next_power_of_two()
    }

    fn instruction(&self) -> String {
        let (columns, half) = (self.columns, self.half.name());
        format!("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{half}.{half}")
    }
}

/// `%0.. = A Bᵀ` with the descriptors of A and B after the result's registers.
fn multiply_text(product: Product, left_panel: usize, right_panel: usize) -> String {
    let (result, left) = (registers(0, product.registers()), product.vector());
    let mut text = String::from(
        "{\n.reg .pred add, set;\n.reg .b64 a, b;\nsetp.ne.b32 add, 1, 0;\nsetp.ne.b32 set, 0, 0;\n\
         wgmma.fence.sync.aligned;\n",
    );
    for step in 0..product.depth / 16 {
        // Four steps of 32 bytes make a panel.
        let offset = |panel: usize| step / 4 * (panel / UNIT) + step % 4 * 2;
        let (a, b) = (offset(left_panel), offset(right_panel));
        let first = if step == 0 { "set" } else { "add" };
        text += &format!("add.s64 a, %{left}, {a};\nadd.s64 b, %{}, {b};\n", left + 1);
        text += &format!(
            "{} {{{result}}}, a, b, {first}, 1, 1, 0, 0;\n",
            product.instruction()
        );
    }
    text + "wgmma.commit_group.sync.aligned;\n}"
}

/// Begins `A Bᵀ`, both in shared memory with panels `left_panel` and `right_panel` bytes apart. The result is there after
/// a [`wait`].
#[cube]
pub(crate) fn multiply<N: Size>(
    left: u64,
    right: u64,
    #[comptime] product: Product,
    #[comptime] left_panel: usize,
    #[comptime] right_panel: usize,
) -> Vector<f32, N> {
    let text = comptime!(multiply_text(product, left_panel, right_panel));
    let (left, right) = (value::<u64>(left), value::<u64>(right));
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {left} {right}\n{text}", out = out(_) out, left = in(_) left, right = in(_) right,
        options(explicit_mem, reads_address_space shared));
    out
}

/// `%0.. = C + A B` with the registers of C, those of A and the descriptor of B after the result's.
fn accumulate_text(product: Product, row: usize) -> String {
    let (count, sums) = (product.registers(), product.vector());
    let left = 2 * sums;
    let right = left + product.left_vector();
    let result = registers(0, count);
    let mut text = String::from("{\n.reg .pred add;\n.reg .b64 b;\nsetp.ne.b32 add, 1, 0;\n");
    text += &moves(0, sums, count);
    text += "wgmma.fence.sync.aligned;\n";
    for step in 0..product.depth / 16 {
        let (b, a) = (step * 16 * row / UNIT, registers(left + 4 * step, 4));
        text += &format!("add.s64 b, %{right}, {b};\n");
        text += &format!(
            "{} {{{result}}}, {{{a}}}, b, add, 1, 1, 1;\n",
            product.instruction()
        );
    }
    text + "wgmma.commit_group.sync.aligned;\n}"
}

/// Begins `sums + A B`, A in registers and B in shared memory, `row` bytes a row of its panels. The result is there after a
/// [`wait`], and until then A's registers must keep their values.
#[cube]
pub(crate) fn accumulate<N: Size, A: Size>(
    sums: Vector<f32, N>,
    left: Vector<u32, A>,
    right: u64,
    #[comptime] product: Product,
    #[comptime] row: usize,
) -> Vector<f32, N> {
    let text = comptime!(accumulate_text(product, row));
    let sums = value::<Vector<f32, N>>(sums);
    let (left, right) = (value::<Vector<u32, A>>(left), value::<u64>(right));
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {sums} {left} {right}\n{text}",
        out = out(_) out, sums = in(_) sums, left = in(_) left, right = in(_) right,
        options(explicit_mem, reads_address_space shared));
    out
}

fn wait_text(product: Product, pending: usize) -> String {
    let moves = moves(0, product.vector(), product.registers());
    format!("wgmma.wait_group.sync.aligned {pending};\n{moves}")
}

/// Waits until all but the last `pending` products are done, `result`'s among those that are.
#[cube]
pub(crate) fn wait<N: Size>(
    result: Vector<f32, N>,
    #[comptime] pending: usize,
    #[comptime] product: Product,
) -> Vector<f32, N> {
    let text = comptime!(wait_text(product, pending));
    let result = value::<Vector<f32, N>>(result);
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {result}\n{text}", out = out(_) out, result = in(_) result,
        options(explicit_mem, reads_address_space shared));
    out
}

/// Waits for all products, but not before `dependency`, a sum of exponentials, is known.
///
/// The assembler would move a plain wait up, before the exponentials that are there to be computed meanwhile. A store
/// stops it that depends on them, and that never happens, as the sum is not negative.
#[cube]
pub(crate) fn wait_after<N: Size>(
    result: Vector<f32, N>,
    dependency: f32,
    #[comptime] product: Product,
) -> Vector<f32, N> {
    let text = comptime!(wait_text(product, 0));
    let (result, sum) = (value::<Vector<f32, N>>(result), value::<f32>(dependency));
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {result}\n{{\n.reg .pred never;\n.reg .b32 zero;\nsetp.lt.f32 never, {sum}, 0f00000000;\nmov.b32 zero, 0;\n@never st.volatile.shared.f32 [zero], {sum};\n}}\n{text}",
        out = out(_) out, result = in(_) result, sum = in(_) sum,
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
    out
}

fn scale_text(product: Product) -> String {
    let sums = product.vector();
    let factor = |i| 2 * sums + usize::from(in_lower_row(i));
    let line = |i| format!("mul.f32 %{i}, %{}, %{};\n", sums + i, factor(i));
    (0..product.registers()).map(line).collect()
}

/// Multiplies the thread's two rows by `upper` and `lower`.
#[cube]
pub(crate) fn scale_rows<N: Size>(
    sums: Vector<f32, N>,
    upper: f32,
    lower: f32,
    #[comptime] product: Product,
) -> Vector<f32, N> {
    let text = comptime!(scale_text(product));
    let sums = value::<Vector<f32, N>>(sums);
    let (upper, lower) = (value::<f32>(upper), value::<f32>(lower));
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {sums} {upper} {lower}\n{text}",
        out = out(_) out, sums = in(_) sums, upper = in(_) upper, lower = in(_) lower, options(pure, nomem));
    out
}
