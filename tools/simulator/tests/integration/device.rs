//! The simulated device of these tests.

use std::io::Write;

use cuda_device::{Arch, Nvrtc};
use simulator::Simulator;

/// A simulated device, or a printed line about the absence of NVRTC: it goes to the terminal though the test passes.
pub(crate) fn device(arch: Arch) -> Option<Simulator> {
    nvrtc().map(|nvrtc| Simulator::new(arch, nvrtc).unwrap())
}

/// NVRTC, or that line.
pub(crate) fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing simulated: {error:#}");
            None
        }
    }
}
