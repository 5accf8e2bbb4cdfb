//! Every CUDA kernel through NVIDIA's compiler, which is installed first.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cuda_device::Arch;

use crate::setup::{self, Cuda};
use crate::workspace;

/// What to hand on.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Version of NVIDIA's compiler.
    #[arg(long, value_enum, default_value_t = Cuda::Cuda12)]
    nvrtc: Cuda,
    /// Architecture to compile for; may be repeated [default: all]
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Other options of the audit, after `--`; `-- --help` lists them.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Whether every kernel keeps within its limits.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut command = command(&setup::wheels(options.nvrtc)?);
    for arch in &options.arch {
        command.args(["--arch", &arch.to_string()]);
    }
    let status = command.args(&options.arguments).status();
    Ok(status.context("cannot start cargo")?.success())
}

/// The audit with the compiler in a folder.
pub(crate) fn command(wheels: &Path) -> Command {
    let mut command = workspace::cargo();
    command
        .args(["run", "--bin", "audit", "--", "--cuda"])
        .arg(wheels);
    command
}
