//! CUDA devices that are not there: what programs need to record, compile and simulate kernels on a machine without a GPU.
//!
//! - [`Arch`] is a GPU architecture with the limits of a card of it; what the CUDA runtime would report of one comes from
//!   the library.
//! - [`pretend`] makes a device of an architecture, to CubeCL a CUDA device like any other, that does whatever it is told
//!   to. A [`Recorder`] is one that keeps the kernels launched on it.
//! - [`source::emit`] writes a kernel as CUDA C++, with the compiler of CubeCL's CUDA runtime.
//! - [`Nvrtc`] compiles that, and keeps on disk what it has compiled.

mod arch;
mod cache;
mod nvrtc;
pub mod pretend;
mod recorder;
pub mod source;

pub use arch::{Arch, Multiprocessor};
pub use diff_flash_attn::device::nvrtc::Compiled;
pub use nvrtc::Nvrtc;
pub use pretend::Kernel;
pub use recorder::Recorder;
pub use source::Source;
