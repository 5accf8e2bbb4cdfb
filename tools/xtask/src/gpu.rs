//! The program for a machine with a GPU: built here, run here or elsewhere.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What to do with it.
#[derive(clap::Args)]
#[command(after_help = USE)]
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

const USE: &str = "\
Every kernel is compared with the f64 reference and with itself, then timed, through CUDA and through Vulkan, whichever is
there. Times go to target/gpu/gpu.json and, in short, to a table that ends the output. It begins nothing after 450 s.

  cargo xtask gpu                      all of it, on this machine's GPU
  cargo xtask gpu --peers              and PyTorch's times, with ratios
  cargo xtask gpu -- --tokens 4096     on a small GPU
  cargo xtask gpu --build-only         for another machine: copy target/release/gpu there and run it; it needs a driver,
                                       and for CUDA NVRTC and the headers of a toolkit (CUDA_PATH or /usr/local/cuda)

Without a GPU, to try the program (a simulated one has results and no times):

  cargo xtask without-gpu target/release/gpu --device cuda --tokens 64 --filter 'd64 dv128 bf16 1×64×64'
  cargo xtask gpu -- --device vulkan --software --tokens 64 --filter 'd64 f32 64×64'";

/// Builds the program, and runs it. Whether nothing that it checked was wrong.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let build = workspace::cargo()
        .args(["build", "--release", "--bin", "gpu"])
        .status();
    let built = build.context("cannot start cargo")?.success();
    ensure!(built, "the program could not be built");
    let program = workspace::root().join("target/release/gpu");
    if options.build_only {
        println!("{}", program.display());
        return Ok(true);
    }
    let mut run = Command::new(&program);
    run.args(&options.arguments).current_dir(folder()?);
    let mut good = succeed(&mut run)?;
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
