//! Kernels as CUDA code in the simulator, and whole programs on the simulated driver.

mod device;
#[cfg(target_os = "linux")]
mod driver;
mod faults;
mod gradient_faults;
mod hopper;
mod mma;
mod mma_faults;
mod portable;
