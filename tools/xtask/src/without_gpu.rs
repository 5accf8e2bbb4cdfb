//! Programs for CUDA on a machine without a GPU.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use cuda_device::{Arch, Nvrtc};
use simulator::{Environment, Settings};

use crate::{setup, workspace};

/// What to run.
#[derive(clap::Args)]
#[command(after_help = USE)]
pub(crate) struct Options {
    /// The GPU that the driver shows.
    #[arg(long, value_enum, default_value_t = Arch::Sm90a)]
    arch: Arch,
    /// How many of them.
    #[arg(long, default_value_t = 1)]
    devices: u32,
    /// Launch nothing: only what calls cost the host remains.
    #[arg(long)]
    no_launches: bool,
    /// Write a line for each launch to this file.
    #[arg(long)]
    record: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

const USE: &str = "\
The program finds a CUDA driver with one H100, or what it is told, whose kernels run in a PTX simulator: everything
works as it would, slowly, and times say nothing. Name programs that are built: cargo would build for the simulated
toolkit. For instance

  cargo xtask without-gpu target/debug/xtask golden tests/fixtures --device cuda --dtype bf16
  cargo xtask without-gpu target/release/gpu --device cuda --tokens 64 --filter 'd64 dv128 bf16 1×64×64'
  cargo xtask without-gpu target/debug/train train --device cuda --size small --steps 1 --folder target/simulated";

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            devices: self.devices,
            run: !self.no_launches,
            record: self.record.clone(),
            ..simulator::settings(self.arch)
        }
    }
}

/// Runs the program where it finds the simulated driver. Whether it says success.
pub(crate) fn run(options: &Options) -> Result<bool> {
    // Built with this program, as its tests need it too.
    let driver = std::env::current_exe()?.with_file_name("deps/libcudriver.so");
    let nvrtc = Nvrtc::open(&setup::cuda_wheels()?)?;
    let folder = workspace::target().join("without-gpu");
    nvrtc.check(options.arch)?;
    let environment = Environment::new(&folder, &driver, &nvrtc)?;
    let environment = environment.with_settings(options.settings());
    let (program, arguments) = options.command.split_first().context("no program")?;
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.variables())
        .status();
    Ok(status
        .with_context(|| format!("cannot start {}", program.display()))?
        .success())
}
