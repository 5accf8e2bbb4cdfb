//! A device whose launches are counted: each runs once, in one order of events, and the counts repeat exactly.

use std::sync::PoisonError;

use anyhow::Result;
use cubecl_core::prelude::Client;
use cubecl_core::server::Handle;
use cuda_device::pretend::Device;
use cuda_device::{Arch, Nvrtc};

use crate::device::simulating;
use crate::launched::{CountedLaunch, Log};

/// A CUDA device that runs in the PTX simulator and counts what its kernels do.
pub struct Counting {
    device: Device,
    log: Log,
}

/// The number of the buffer that a handle means.
pub fn buffer(handle: &Handle) -> usize {
    handle.clone().binding().memory.id().value
}

impl Counting {
    /// A device of the given architecture.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new(arch: Arch, nvrtc: Nvrtc) -> Result<Self> {
        let log = Log::default();
        let device = simulating(arch, nvrtc, Box::new(|ptx| ptx), Some(log.clone()))?;
        Ok(Self { device, log })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        self.device.client()
    }

    /// The launches since the last call, in order.
    ///
    /// # Errors
    /// If one of them went wrong, or the device's thread died.
    pub fn take(&self) -> Result<Vec<CountedLaunch>> {
        self.client().flush()?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut log))
    }
}
