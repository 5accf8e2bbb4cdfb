//! One launch: compiled once, then run in every order, with results compared.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use audit::source::{Source, emit};
use audit::{Arch, Kernel, Nvrtc};
use cubecl_server::server::KernelArguments;
use ptxsim::{Config, Mode, Module, Schedule};

use crate::arguments::arguments;
use crate::memory::Memory;

/// An order of events that a GPU could choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When copies and products of the background take effect.
    pub mode: Mode,
    /// Which warp goes on next.
    pub schedule: Schedule,
}

impl Run {
    /// Everything at once and in turn, and everything as late as it can be, with either end of the cube ahead.
    pub const USUAL: [Run; 3] = [
        Run {
            mode: Mode::Eager,
            schedule: Schedule::RoundRobin,
        },
        Run {
            mode: Mode::Lazy,
            schedule: Schedule::LowFirst,
        },
        Run {
            mode: Mode::Lazy,
            schedule: Schedule::HighFirst,
        },
    ];
}

/// Compiles and runs kernels for one architecture.
pub(crate) struct Runner {
    arch: Arch,
    nvrtc: Nvrtc,
    runs: Vec<Run>,
    modules: HashMap<String, (Source, Module)>,
}

impl Runner {
    pub fn new(arch: Arch, nvrtc: Nvrtc, runs: &[Run]) -> Self {
        Self {
            arch,
            nvrtc,
            runs: runs.to_vec(),
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
            let compiled = compile(kernel, self.arch, &self.nvrtc)?;
            self.modules.insert(name.clone(), compiled);
        }
        let (source, module) = &self.modules[&name];
        let arguments = arguments(memory, given)?;
        let before = memory.snapshot(given);
        let mut first: Option<(Run, Vec<Vec<u8>>)> = None;
        for run in &self.runs {
            memory.restore(&before);
            let config = Config {
                mode: run.mode,
                schedule: run.schedule,
                parallel: true,
                ..Config::default()
            };
            let done = memory.device.launch(
                module,
                &source.entry,
                grid,
                source.cube_dim,
                source.shared_memory,
                &arguments,
                &config,
            );
            let stats = done.with_context(|| format!("{} in {run:?}", source.entry))?;
            ensure!(
                stats.warnings.is_empty(),
                "{} in {run:?}: {:?}",
                source.entry,
                stats.warnings
            );
            let after = before
                .iter()
                .map(|(buffer, _)| memory.device.download(*buffer));
            let after: Vec<Vec<u8>> = after.collect();
            match &first {
                None => first = Some((*run, after)),
                Some((other, expected)) if *expected != after => {
                    bail!(
                        "{}: {run:?} and {other:?} give different results",
                        source.entry
                    )
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn compile(kernel: &Kernel, arch: Arch, nvrtc: &Nvrtc) -> Result<(Source, Module)> {
    let source = emit(&**kernel, arch)?;
    let ptx = nvrtc.ptx(&source.text, arch.virtual_name())?;
    let module = Module::load(&ptx).context("PTX that the simulator does not know")?;
    Ok((source, module))
}
