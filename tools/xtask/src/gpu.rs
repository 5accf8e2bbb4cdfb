//! The program for a machine with a GPU: built here, run here or elsewhere.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What to do with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build it and say where it is, for a machine that has no cargo.
    #[arg(long)]
    build_only: bool,
    /// Its own options, after `--`; `-- --help` lists them.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds the program, and runs it. Whether nothing that it checked was wrong.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let build = workspace::cargo()
        .args(["build", "--release", "--bin", "gpu"])
        .status();
    let built = build.context("cannot start cargo")?.success();
    ensure!(built, "the program could not be built");
    let program = workspace::root().join("target/release/gpu");
    println!(
        "{}: needs a driver, and for CUDA the NVRTC library and the headers of a toolkit (CUDA_PATH or /usr/local/cuda)",
        program.display()
    );
    if options.build_only {
        return Ok(true);
    }
    let run = Command::new(&program).args(&options.arguments).status();
    Ok(run.context("cannot start it")?.success())
}
