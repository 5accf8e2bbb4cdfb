//! The device, as CubeCL sees it.

use anyhow::{Result, anyhow, bail};
use cubecl_core::prelude::{Client, CubeCount};
use cubecl_server::memory_management::ManagedMemoryHandle;
use cubecl_server::server::{CopyDescriptor, KernelArguments};
use cuda_device::pretend::{Behaviour, Device};
use cuda_device::{Arch, Kernel, Nvrtc};

use crate::launched::Log;
use crate::memory::Memory;
use crate::runner::{Change, Runner};

/// A CUDA device that runs in the PTX simulator.
pub struct Simulator {
    device: Device,
}

impl Simulator {
    /// A device of the given architecture.
    ///
    /// # Errors
    /// If CubeCL does not take the device, as after 65536 of them.
    pub fn new(arch: Arch, nvrtc: Nvrtc) -> Result<Self> {
        Self::with_changes(arch, nvrtc, |ptx| ptx)
    }

    /// As [`new`](Self::new), but every kernel's PTX is changed before it runs: to see what a fault in it does.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_changes(
        arch: Arch,
        nvrtc: Nvrtc,
        change: impl Fn(String) -> String + Send + 'static,
    ) -> Result<Self> {
        let device = simulating(arch, nvrtc, Box::new(change), None)?;
        Ok(Self { device })
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        self.device.client()
    }
}

/// A new device, whose launches are counted into a log if there is one.
pub(crate) fn simulating(
    arch: Arch,
    nvrtc: Nvrtc,
    change: Change,
    log: Option<Log>,
) -> Result<Device> {
    let simulating = Simulating {
        runner: Runner::new(arch, nvrtc, change, log),
        memory: Memory::new(arch.shared_memory()),
        failure: None,
    };
    Device::new(arch, simulating)
}

struct Simulating {
    runner: Runner,
    memory: Memory,
    /// What went wrong first; from then on nothing can be read.
    failure: Option<String>,
}

impl Simulating {
    fn run(&mut self, kernel: &Kernel, count: CubeCount, given: &KernelArguments) -> Result<()> {
        let CubeCount::Static(x, y, z) = count else {
            bail!("grids of sizes from a buffer are not simulated");
        };
        if [x, y, z].contains(&0) {
            return Ok(());
        }
        self.runner
            .launch(kernel, [x, y, z], given, &mut self.memory)
    }

    fn note(&mut self, result: Result<()>) {
        if let (Err(error), None) = (result, &self.failure) {
            self.failure = Some(format!("{error:#}"));
        }
    }
}

impl Behaviour for Simulating {
    fn launch(&mut self, kernel: Kernel, count: CubeCount, arguments: KernelArguments) {
        if self.failure.is_none() {
            let result = self.run(&kernel, count, &arguments);
            self.note(result);
        }
    }

    fn allocate(&mut self, memory: ManagedMemoryHandle, size: u64) {
        self.memory.allocate(memory.binding().id(), size as usize);
    }

    fn write(&mut self, tensor: &CopyDescriptor, bytes: &[u8]) {
        let result = self.memory.write(tensor, bytes);
        self.note(result);
    }

    fn read(&mut self, tensor: &CopyDescriptor) -> Result<Vec<u8>> {
        self.check()?;
        self.memory.read(tensor)
    }

    fn check(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(anyhow!(reason.clone())),
        }
    }
}
