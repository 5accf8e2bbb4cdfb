//! The simulated device of these tests.

use std::io::Write;
use std::path::PathBuf;

use audit::{Arch, Nvrtc};
use simulator::Simulator;

/// A simulated device, or a printed line about the absence of NVRTC: it goes to the terminal though the test passes.
pub(crate) fn device(arch: Arch) -> Option<Simulator> {
    nvrtc().map(|nvrtc| Simulator::new(arch, nvrtc).unwrap())
}

/// NVRTC, or that line.
pub(crate) fn nvrtc() -> Option<Nvrtc> {
    let wheels = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/cuda-wheels");
    let root = std::env::var_os("CUDA_PATH").map_or(PathBuf::from(wheels), PathBuf::from);
    match Nvrtc::open(&root) {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing simulated: {error:#}");
            None
        }
    }
}
