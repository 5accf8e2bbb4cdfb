//! A device that runs nothing: it keeps the kernels that are launched on it.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use cubecl_core::prelude::{Client, CubeCount};
use cubecl_server::memory_management::ManagedMemoryHandle;
use cubecl_server::server::{CopyDescriptor, KernelArguments};

use crate::arch::Arch;
use crate::pretend::{self, Behaviour, Kernel};

type Log = Arc<Mutex<Vec<Kernel>>>;

/// A pretended CUDA device. Code that launches kernels takes its [`client`](Recorder::client) for a real one: buffers
/// are allocated and written in name only, launches are kept, reads give zeros.
pub struct Recorder {
    device: pretend::Device,
    log: Log,
}

impl Recorder {
    /// A new device of the given architecture.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new(arch: Arch) -> Result<Self> {
        Self::keeping(arch, true)
    }

    /// A device that forgets what is launched on it: to measure what calls cost the host.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn forgetting(arch: Arch) -> Result<Self> {
        Self::keeping(arch, false)
    }

    fn keeping(arch: Arch, keeps: bool) -> Result<Self> {
        let log = Log::default();
        let recording = Recording {
            log: log.clone(),
            keeps,
        };
        let device = pretend::Device::new(arch, recording)?;
        Ok(Self { device, log })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        self.device.client()
    }

    /// The kernels launched since the last call, in order, one entry a launch.
    ///
    /// # Errors
    /// If the device's thread died.
    pub fn take(&self) -> Result<Vec<Kernel>> {
        self.client().flush()?;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut log))
    }
}

struct Recording {
    log: Log,
    keeps: bool,
}

impl Behaviour for Recording {
    fn launch(&mut self, kernel: Kernel, _count: CubeCount, _arguments: KernelArguments) {
        if self.keeps {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(kernel);
        }
    }

    fn allocate(&mut self, _memory: ManagedMemoryHandle, _size: u64) {}

    fn write(&mut self, _tensor: &CopyDescriptor, _bytes: &[u8]) {}

    fn read(&mut self, tensor: &CopyDescriptor) -> Result<Vec<u8>> {
        let len = tensor.shape.iter().product::<usize>() * tensor.elem_size;
        Ok(vec![0; len])
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
