//! One launch: compiled once, then run in every order.

use std::collections::HashMap;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use cubecl_server::server::KernelArguments;
use cuda_device::source::{Source, emit};
use cuda_device::{Arch, Kernel, Nvrtc};
use ptxsim::{Arg, Buffer, Launch, Mode, Module, Traffic};

use crate::arguments::{arguments, buffers};
use crate::launched::{Accessed, CountedLaunch, Log};
use crate::memory::Memory;

/// What is done to a kernel's PTX before it runs.
pub(crate) type Change = Box<dyn Fn(String) -> String + Send>;

/// Compiles and runs kernels for one architecture.
pub(crate) struct Runner {
    arch: Arch,
    nvrtc: Nvrtc,
    change: Change,
    modules: HashMap<String, (Source, Module)>,
    /// Where launches are counted, which then run in one order.
    log: Option<Log>,
}

impl Runner {
    pub fn new(arch: Arch, nvrtc: Nvrtc, change: Change, log: Option<Log>) -> Self {
        Self {
            arch,
            nvrtc,
            change,
            modules: HashMap::new(),
            log,
        }
    }

    /// Runs a kernel, and leaves in memory what it wrote.
    pub fn launch(
        &mut self,
        kernel: &Kernel,
        grid: [u32; 3],
        given: &KernelArguments,
        memory: &mut Memory,
    ) -> Result<()> {
        let name = kernel.id().stable_format();
        if !self.modules.contains_key(&name) {
            let compiled = self.compile(kernel)?;
            self.modules.insert(name.clone(), compiled);
        }
        let (source, module) = &self.modules[&name];
        let arguments = arguments(memory, given)?;
        let launch = Launch {
            shared: source.shared_memory,
            ..Launch::new(grid, source.cube_dim)
        };
        if let Some(log) = &self.log {
            let found = buffers(memory, given)?;
            let launched = count(memory, (source, module), &launch, &arguments, &found)?;
            let launched = CountedLaunch {
                kernel: kernel.id().short_name().to_string(),
                ..launched
            };
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(launched);
            return Ok(());
        }
        let device = &mut memory.device;
        device
            .launch_in_all_orders(module, &source.entry, &launch, &arguments)
            .with_context(|| source.entry.clone())?;
        Ok(())
    }

    fn compile(&self, kernel: &Kernel) -> Result<(Source, Module)> {
        let source = emit(&**kernel, self.arch)?;
        let ptx = self.nvrtc.ptx(&source.text, self.arch)?;
        let ptx = (self.change)(ptx);
        let module = Module::load(&ptx).context("PTX that the simulator does not know")?;
        Ok((source, module))
    }
}

/// Runs a launch once, and says what it did.
fn count(
    memory: &mut Memory,
    (source, module): (&Source, &Module),
    launch: &Launch,
    arguments: &[Arg],
    buffers: &[(usize, Buffer)],
) -> Result<CountedLaunch> {
    let range = |(_, buffer): &(usize, Buffer)| {
        let end = buffer.address + buffer.bytes as u64;
        buffer.address..end
    };
    let launch = Launch {
        mode: Mode::Eager,
        count: Some(buffers.iter().map(range).collect()),
        ..launch.clone()
    };
    let stats = memory
        .device
        .launch(module, &source.entry, &launch, arguments);
    let stats = stats.with_context(|| source.entry.clone())?;
    let counts = stats.counts.unwrap_or_default();
    let accessed = |((number, buffer), traffic): (&(usize, Buffer), &Traffic)| Accessed {
        buffer: *number,
        bytes: buffer.bytes as u64,
        traffic: *traffic,
    };
    Ok(CountedLaunch {
        kernel: source.entry.clone(),
        grid: launch.grid,
        cube: launch.block,
        shared_memory: launch.shared,
        tensors: buffers.iter().zip(&counts.global).map(accessed).collect(),
        counts,
    })
}
