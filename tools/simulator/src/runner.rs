//! One launch: compiled once, then run in every order.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cubecl_server::server::KernelArguments;
use cuda_device::source::{Source, emit};
use cuda_device::{Arch, Kernel, Nvrtc};
use ptxsim::{Launch, Module};

use crate::arguments::arguments;
use crate::memory::Memory;

/// What is done to a kernel's PTX before it runs.
pub(crate) type Change = Box<dyn Fn(String) -> String + Send>;

/// Compiles and runs kernels for one architecture.
pub(crate) struct Runner {
    arch: Arch,
    nvrtc: Nvrtc,
    change: Change,
    modules: HashMap<String, (Source, Module)>,
}

impl Runner {
    pub fn new(arch: Arch, nvrtc: Nvrtc, change: Change) -> Self {
        Self {
            arch,
            nvrtc,
            change,
            modules: HashMap::new(),
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
