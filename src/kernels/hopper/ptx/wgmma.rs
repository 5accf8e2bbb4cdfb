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

/// Comptime shape of a product of a warpgroup, 64 rows of `columns` columns; or of one of each map, begun together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub columns: usize,
    /// Length of the sums, a multiple of 16.
    pub depth: usize,
    pub half: Half,
    /// Products that are begun together, one of each map.
    pub maps: usize,
    /// Their results side by side, or one that all are added to.
    pub results: usize,
}

impl Product {
    /// A single one.
    pub(crate) const fn one(columns: usize, depth: usize, half: Half) -> Product {
        Product {
            columns,
            depth,
            half,
            maps: 1,
            results: 1,
        }
    }

    /// The same of each map, with results of their own.
    pub(crate) const fn each(self, maps: usize) -> Product {
        Product {
            maps,
            results: maps,
            ..self
        }
    }

    /// The same of each map, added up in one result.
    pub(crate) const fn sum(self, maps: usize) -> Product {
        Product { maps, ..self }
    }

    /// Registers of a thread for one result.
    pub(crate) const fn result_registers(&self) -> usize {
        self.columns / 2
    }

    /// Registers of a thread for all results.
    pub(crate) const fn registers(&self) -> usize {
        self.results * self.result_registers()
    }

    /// The same as a size of a vector.
    pub(crate) const fn vector(&self) -> usize {
        self.registers().next_power_of_two()
    }

    /// Registers of a thread for the left operand of one product.
    const fn left_registers(&self) -> usize {
        self.depth / 4
    }

    /// Size of a vector for all left operands in registers.
    pub(crate) const fn left_vector(&self) -> usize {
        (self.maps * self.left_registers()).next_power_of_two()
    }

    /// Names of the registers of a map's result.
    fn result(&self, map: usize) -> String {
        let count = self.result_registers();
        registers(map.min(self.results - 1) * count, count)
    }

    fn instruction(&self) -> String {
        let (columns, half) = (self.columns, self.half.name());
        format!("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{half}.{half}")
    }
}

/// How an operand lies in shared memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    /// Distance of the panels.
    pub panel: usize,
    /// Distance of the maps.
    pub map: usize,
}

impl Operand {
    /// Of one map.
    pub(crate) const fn panels(panel: usize) -> Operand {
        Operand { panel, map: 0 }
    }
}

/// `%0.. = A Bᵀ` with the descriptors of A and B after the result's registers.
fn multiply_text(product: Product, left_operand: Operand, right_operand: Operand) -> String {
    let left = product.vector();
    let mut text = String::from(
        "{\n.reg .pred add, set;\n.reg .b64 a, b;\nsetp.ne.b32 add, 1, 0;\nsetp.ne.b32 set, 0, 0;\n\
         wgmma.fence.sync.aligned;\n",
    );
    for (map, step) in steps(product) {
        // Four steps of 32 bytes make a panel.
        let offset = |it: Operand| (map * it.map + step / 4 * it.panel) / UNIT + step % 4 * 2;
        let (a, b) = (offset(left_operand), offset(right_operand));
        let first = if step == 0 { "set" } else { "add" };
        text += &format!("add.s64 a, %{left}, {a};\nadd.s64 b, %{}, {b};\n", left + 1);
        text += &format!(
            "{} {{{}}}, a, b, {first}, 1, 1, 0, 0;\n",
            product.instruction(),
            product.result(map)
        );
    }
    text + "wgmma.commit_group.sync.aligned;\n}"
}

/// Instructions of a product: the map, and which 16 of the depth.
fn steps(product: Product) -> impl Iterator<Item = (usize, usize)> {
    let depth = product.depth / 16;
    (0..product.maps).flat_map(move |map| (0..depth).map(move |step| (map, step)))
}

/// Begins `A Bᵀ`, both in shared memory. The result is there after a [`wait`].
#[cube]
pub(crate) fn multiply<N: Size>(
    left: u64,
    right: u64,
    #[comptime] product: Product,
    #[comptime] left_operand: Operand,
    #[comptime] right_operand: Operand,
) -> Vector<f32, N> {
    let text = comptime!(multiply_text(product, left_operand, right_operand));
    let (left, right) = (value::<u64>(left), value::<u64>(right));
    let out: Vector<f32, N>;
    gpu_asm!("// {out} {left} {right}\n{text}", out = out(_) out, left = in(_) left, right = in(_) right,
        options(explicit_mem, reads_address_space shared));
    out
}

/// `%0.. = C + A B` with the registers of C, those of A and the descriptor of B after the result's.
fn accumulate_text(product: Product, row: usize, map_bytes: usize) -> String {
    let (count, sums) = (product.registers(), product.vector());
    let left = 2 * sums;
    let right = left + product.left_vector();
    let mut text = String::from("{\n.reg .pred add;\n.reg .b64 b;\nsetp.ne.b32 add, 1, 0;\n");
    text += &moves(0, sums, count);
    text += "wgmma.fence.sync.aligned;\n";
    for (map, step) in steps(product) {
        let a = registers(left + map * product.left_registers() + 4 * step, 4);
        let b = (map * map_bytes + step * 16 * row) / UNIT;
        text += &format!("add.s64 b, %{right}, {b};\n");
        text += &format!(
            "{} {{{}}}, {{{a}}}, b, add, 1, 1, 1;\n",
            product.instruction(),
            product.result(map)
        );
    }
    text + "wgmma.commit_group.sync.aligned;\n}"
}

/// Begins `sums + A B`, A in registers and B in shared memory, `row` bytes a row of its panels and `map` bytes from map to
/// map. The result is there after a [`wait`], and until then A's registers must keep their values.
#[cube]
pub(crate) fn accumulate<N: Size, A: Size>(
    sums: Vector<f32, N>,
    left: Vector<u32, A>,
    right: u64,
    #[comptime] product: Product,
    #[comptime] row: usize,
    #[comptime] map: usize,
) -> Vector<f32, N> {
    let text = comptime!(accumulate_text(product, row, map));
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

/// Columns from which on a product's result makes the assembler give a kernel all registers at entry.
const MANY_COLUMNS: usize = 112;

/// A product that is never made: `length` is never negative.
fn claim_text() -> String {
    let result: Vec<_> = (0..MANY_COLUMNS / 2).map(|i| format!("c{i}")).collect();
    format!(
        "{{\n.reg .pred real, add;\n.reg .b64 a;\n.reg .f32 c<{}>;\nsetp.ge.s32 real, %0, 0;\n@real bra CLAIMED;\n\
         setp.ne.b32 add, 0, 0;\nmov.b64 a, 0;\nwgmma.fence.sync.aligned;\n\
         wgmma.mma_async.sync.aligned.m64n{MANY_COLUMNS}k16.f32.bf16.bf16 {{{}}}, a, a, add, 1, 1, 0, 0;\n\
         wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\nCLAIMED:\n}}",
        result.len(),
        result.join(", ")
    )
}

/// Lets the assembler take it that every thread begins with as many registers as can be, for a kernel with `products`.
///
/// It must know the count to heed `setmaxnreg`. CubeCL's launch bounds say how many threads a cube has, not that one cube is
/// enough for a multiprocessor, and without that the assembler knows only in kernels with a result of 112 columns or more
/// (ptxas 12.9: C7508, and then C7512 for want of registers). For others there is one that is never made, in the warpgroup
/// that loads and before it gives up registers, where none are short.
#[cube]
pub(crate) fn claim_registers(length: i32, #[comptime] widest: usize) {
    if comptime!(widest < MANY_COLUMNS) {
        let text = comptime!(claim_text());
        let length = value::<i32>(length);
        gpu_asm!("// {length}\n{text}", length = in(_) length,
            options(explicit_mem, reads_address_space shared));
    }
}
