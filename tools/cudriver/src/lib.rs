//! A CUDA driver for machines without a GPU: the functions of `libcuda` that CubeCL's CUDA runtime calls, on a PTX
//! simulator in place of a GPU.
//!
//! A program that finds this library where it looks for `libcuda.so` sees one device of compute capability 9.0, or what
//! [`Settings`] say in its environment: others, several, devices that do nothing. All of the program runs as it would with a GPU: the runtime's memory pools and streams, NVRTC, tensor maps, launches.
//!
//! - What a call asks for is done when it returns; streams and events only keep up appearances.
//! - The driver's own rules are kept: shared memory must be asked for, tensor maps be encodable, addresses be known. A
//!   fault of a kernel fails its launch and every later call, as on a GPU; standard error says which PTX line it was.
//! - Times between events are times of this machine. They say nothing about a GPU.
//! - What is not here fails: PTX that the simulator does not know is invalid PTX, and a missing function says its name.
//!
//! `cargo xtask without-gpu PROGRAM` runs a program so.

#![allow(non_snake_case, reason = "the names of cuda.h")]

mod device;
mod driver;
mod launch;
mod memory;
mod module;
mod order;
mod raw;
mod settings;
mod tensor_map;

pub use settings::{Launched, Settings};
