//! Instructions of compute capability 8.0 that CubeCL has no word for: fragments from shared memory, their products, and
//! copies that run beside both.

use cubecl::prelude::*;

use crate::kernels::warp::ptx::{Half, value};
use crate::math::F4;

/// Four words: a fragment of 16 rows and 16 columns, as the left operand or as two right ones.
pub(crate) type W4 = Vector<u32, Const<4>>;

/// Loads four matrices of 8 x 8, each from the rows whose addresses eight lanes in turn have. A thread gets two neighbours
/// of a row from each. All addresses are `skip` bytes further.
#[cube]
pub(crate) fn load_rows(at: u32, #[comptime] skip: usize) -> W4 {
    let at = value::<u32>(at);
    let out: W4;
    gpu_asm!("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {out}, [{at} + {skip}];", out = out(_) out, at = in(_) at,
        options(explicit_mem, reads_address_space shared));
    out
}

/// The same transposed: a thread gets two neighbours of a column.
#[cube]
pub(crate) fn load_columns(at: u32, #[comptime] skip: usize) -> W4 {
    let at = value::<u32>(at);
    let out: W4;
    gpu_asm!("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {out}, [{at} + {skip}];", out = out(_) out, at = in(_) at,
        options(explicit_mem, reads_address_space shared));
    out
}

/// `sums + A B`, 16 rows and 8 columns summed over 16: `left` is A, `low` and `high` are B.
#[cube]
pub(crate) fn multiply(sums: F4, left: W4, low: u32, high: u32, #[comptime] half: Half) -> F4 {
    let name = comptime!(half.name());
    let (sums, left) = (value::<F4>(sums), value::<W4>(left));
    let (low, high) = (value::<u32>(low), value::<u32>(high));
    let out: F4;
    gpu_asm!("mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 {out}, {left}, {{{low}, {high}}}, {sums};",
        out = out(_) out, sums = in(_) sums, left = in(_) left, low = in(_) low, high = in(_) high,
        options(pure, nomem));
    out
}

/// Begins to copy 16 bytes from element `index` of 16 bits to `to + skip`; zeros where `bytes` is 0 instead of 16, and then
/// nothing is read.
#[cube]
pub(crate) fn copy16<F: CubePrimitive>(
    from: *const F,
    index: u32,
    bytes: u32,
    to: u32,
    #[comptime] skip: usize,
) {
    let (index, bytes, to) = (value::<u32>(index), value::<u32>(bytes), value::<u32>(to));
    gpu_asm!("{{\n.reg .b64 at;\nmad.wide.u32 at, {index}, 2, {from};\ncp.async.cg.shared.global [{to} + {skip}], [at], 16, {bytes};\n}}",
        from = mem_in(_) from, index = in(_) index, bytes = in(_) bytes, to = in(_) to,
        options(explicit_mem, reads_address_space global, writes_address_space shared));
}

/// The same for one `f32`, element `index`.
#[cube]
pub(crate) fn copy4(from: *const f32, index: u32, bytes: u32, to: u32, #[comptime] skip: usize) {
    let (index, bytes, to) = (value::<u32>(index), value::<u32>(bytes), value::<u32>(to));
    gpu_asm!("{{\n.reg .b64 at;\nmad.wide.u32 at, {index}, 4, {from};\ncp.async.ca.shared.global [{to} + {skip}], [at], 4, {bytes};\n}}",
        from = mem_in(_) from, index = in(_) index, bytes = in(_) bytes, to = in(_) to,
        options(explicit_mem, reads_address_space global, writes_address_space shared));
}

/// Makes the thread's copies since the last time a group.
#[cube]
pub(crate) fn commit_copies() {
    gpu_asm!("cp.async.commit_group;", options(explicit_mem, writes_address_space shared));
}

/// Waits until all but the thread's last `pending` groups are there. What others copied is there after a barrier.
#[cube]
pub(crate) fn wait_copies(#[comptime] pending: usize) {
    gpu_asm!("cp.async.wait_group {pending};",
        options(explicit_mem, reads_address_space shared, writes_address_space shared));
}
