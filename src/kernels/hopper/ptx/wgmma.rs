//! Products of a warpgroup on the tensor cores.
//!
//! Operands in shared memory are panels of 64 columns (128 bytes) in the 128-byte swizzle, as TMA writes them, or values of
//! 32 (64 bytes) in the 64-byte swizzle; eight rows of a panel begin at a multiple of their size. Descriptors count in units
//! of 16 bytes.

use cubecl::prelude::*;

use crate::kernels::warp::fragment::in_lower_row;
use crate::kernels::warp::ptx::{Half, moves, registers, value};

/// Unit of a descriptor's addresses and distances, in bytes.
pub(crate) const UNIT: usize = 16;
/// Columns of a panel.
pub(crate) const PANEL: usize = 64;
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

/// A result whose product a [`wait`] for another one has waited for, too.
#[cube]
pub(crate) fn settle<N: Size>(
    result: Vector<f32, N>,
    #[comptime] product: Product,
) -> Vector<f32, N> {
    let moves = comptime!(moves(0, product.vector(), product.registers()));
    let result = value::<Vector<f32, N>>(result);
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {result}\n{moves}", out = out(_) out, result = in(_) result,
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
