//! For compute capability 9.0 (H100, H200): tiles by TMA, products by warpgroups on the tensor cores.

pub(crate) mod epilogue;
pub(crate) mod forward;
mod fragment;
mod producer;
pub(crate) mod ptx;
mod ring;
pub(crate) mod settings;
pub(crate) mod shape;
mod softmax;
mod turns;
