//! Every CUDA kernel through NVIDIA's compiler, which is installed first.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{setup, workspace};

/// What to hand on.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the audit, after `--`; `-- --help` lists them.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Whether every kernel keeps within its limits.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut command = command(&setup::cuda_wheels()?);
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
