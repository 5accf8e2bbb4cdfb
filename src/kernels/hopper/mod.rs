//! For compute capability 9.0 (H100, H200): tiles by TMA, products by warpgroups on the tensor cores.
//!
//! [`kernel`](forward::kernel) is the schedule, and reads from top to bottom: [`producer`](forward::producer) fills the rings ([`ring`]) that the computing
//! warpgroups empty ([`tiles`](forward::tiles)), [`softmax`](super::warp::softmax) stands between their two products, [`epilogue`](forward::epilogue) makes the output.
//! [`shape`](forward::shape) says what is compiled in and lists what lies in shared memory ([`memory`]), [`accumulator`] and [`fragment`](super::warp::fragment)
//! say who holds which element, [`ptx`] has every instruction's text.

mod accumulator;
pub(crate) mod backward;
mod barriers;
pub(crate) mod forward;
mod memory;
mod output;
mod ptx;
mod ring;
pub(crate) mod settings;
mod turns;
mod work;
