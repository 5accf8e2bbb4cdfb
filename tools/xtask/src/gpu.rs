//! The program for a machine with a GPU: built here, run here or elsewhere.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What to do with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build it and say where it is, for a machine that has no cargo.
    #[arg(long)]
    build_only: bool,
    /// Then time what PyTorch has on the same GPU, and compare; python3 must have torch.
    #[arg(long)]
    peers: bool,
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
    let mut run = Command::new(&program);
    let mut good = succeed(run.args(&options.arguments).current_dir(folder()?))?;
    if options.peers {
        good &= compare()?;
    }
    Ok(good)
}

/// Where the times are written.
fn folder() -> Result<PathBuf> {
    let folder = workspace::root().join("target/gpu");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Times the peers and prints the ratios. Whether they were right and something could be compared.
fn compare() -> Result<bool> {
    let (folder, peers) = (folder()?, workspace::root().join("tools/peers"));
    let python = |script: &str, arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(peers.join(script)).args(arguments);
        succeed(command.current_dir(&folder))
    };
    Ok(python("peers.py", &["--json", "peers.json"])?
        & python("compare.py", &["peers.json", "gpu.json"])?)
}

fn succeed(command: &mut Command) -> Result<bool> {
    let name = command.get_program().to_owned();
    let status = command.status();
    Ok(status
        .with_context(|| format!("cannot start {}", name.display()))?
        .success())
}
