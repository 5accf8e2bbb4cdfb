//! For compute capability 9.0 (H100, H200): tiles by TMA, products by warpgroups on the tensor cores.
//!
//! [`forward`] is the schedule, and reads from top to bottom: [`producer`] fills the rings ([`ring`]) that the computing
//! warpgroups empty ([`tiles`]), [`softmax`] stands between their two products, [`epilogue`] makes the output. [`shape`]
//! says what is compiled in and where it lies, [`fragment`] who holds which element, [`ptx`] has every instruction's text.

pub(crate) mod epilogue;
pub(crate) mod forward;
mod fragment;
mod producer;
pub(crate) mod ptx;
mod ring;
pub(crate) mod settings;
pub(crate) mod shape;
mod softmax;
mod tiles;
mod turns;
