//! Barriers in shared memory that count arrivals and bytes, and the barrier of a cluster.

use cubecl::prelude::*;

use crate::kernels::warp::ptx::value;

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
