//! Copies of boxes of a tensor to shared memory.

use cubecl::prelude::*;

use crate::kernels::warp::ptx::value;

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
