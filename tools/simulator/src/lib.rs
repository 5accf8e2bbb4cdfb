//! A CUDA device without a GPU: whatever is launched on its client runs in a PTX simulator.
//!
//! The way of a launch:
//! 1. CubeCL hands over a kernel and its arguments, as it would to the CUDA runtime.
//! 2. The kernel becomes CUDA C++ by the runtime's own compiler, and PTX by NVRTC. That is the PTX that a GPU would get.
//! 3. [`ptxsim`] runs it in several orders of events, each time on the same memory. Results must agree to the last bit:
//!    where they do not, a wait is missing or a buffer is reused too early.
//! 4. Faults and differences are errors of the launch, found by the next read or check of any buffer.
//!
//! So code that is written for a CUDA device runs unchanged, and its tests are ordinary tests. Buffers that are made
//! without contents hold NaNs.
//!
//! A whole program, CubeCL's CUDA runtime included, runs on the simulated driver of `tools/cudriver` instead, in one
//! order: [`Environment`] is what such a program has to find, [`with_driver`] a test in it. [`Settings`] say what devices it
//! shows, and whether launches run or are only recorded.

mod arguments;
#[cfg(target_os = "linux")]
mod child;
mod device;
#[cfg(target_os = "linux")]
mod environment;
mod memory;
mod runner;

#[cfg(target_os = "linux")]
pub use child::{environment, has_driver, with_devices, with_driver};
#[cfg(target_os = "linux")]
pub use cudriver::{Launched, Settings};
pub use device::Simulator;
#[cfg(target_os = "linux")]
pub use environment::{Environment, settings};
