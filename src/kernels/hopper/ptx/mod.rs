//! Instructions of compute capability 9.0 that CubeCL has no word for, one small function each; what their text may rely on
//! is said in [`warp::ptx`](crate::kernels::warp::ptx).

pub(crate) mod mbarrier;
pub(crate) mod tma;
pub(crate) mod wgmma;

use cubecl::prelude::*;

/// Sets the registers of every thread of the warpgroup: up to `count` if `more`, else down to it.
#[cube]
pub(crate) fn set_registers(#[comptime] more: bool, #[comptime] count: u32) {
    let direction = comptime!(if more { "inc" } else { "dec" });
    gpu_asm!(
        "setmaxnreg.{direction}.sync.aligned.u32 {count};",
        options(nomem)
    );
}
