//! `cargo run --bin audit`: compiles every kernel for NVIDIA GPUs, with no GPU, and fails if one spills.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use audit::{Item, Report, catalogue};
use clap::Parser;
use cuda_device::{Arch, Nvrtc};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;

/// Compiles every kernel that the library launches for NVIDIA GPUs, without one, and prints what it needs: registers,
/// shared memory, local memory, spills. Exit status 1 if a kernel does not compile or spills.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// CUDA toolkit, or folder into which NVIDIA's Python packages were installed
    #[arg(
        long,
        value_name = "DIR",
        env = "CUDA_PATH",
        default_value = "target/cuda-wheels"
    )]
    cuda: PathBuf,
    /// Architecture to compile for; may be repeated [default: all]
    #[arg(long)]
    arch: Vec<Arch>,
    /// Only kernels with this text in their name or settings
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Write the CUDA C++ of every kernel to this folder
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Write the PTX of every kernel to this folder
    #[arg(long, value_name = "DIR")]
    ptx: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let nvrtc = Nvrtc::open(&arguments.cuda).context(HELP)?;
    let items = items(&arguments, &nvrtc)?;
    let report = compile(&items, &nvrtc)?;
    if let Some(folder) = &arguments.source {
        report.write_sources(folder)?;
    }
    if let Some(folder) = &arguments.ptx {
        report.write_ptx(folder)?;
    }
    println!("NVRTC {}\n{report}", nvrtc.version());
    let passed = report.failed() == 0;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const HELP: &str = "\
no CUDA compiler; it needs no GPU and comes from PyPI:
python3 -m pip install --no-deps --target target/cuda-wheels 'nvidia-cuda-nvrtc-cu12==12.9.*' \\
    'nvidia-cuda-runtime-cu12==12.9.*' 'nvidia-cuda-cccl-cu12==12.9.*'";

fn items(arguments: &Arguments, nvrtc: &Nvrtc) -> Result<Vec<Item>> {
    let chosen = &arguments.arch;
    let archs = Arch::ALL
        .into_iter()
        .filter(|arch| chosen.is_empty() || chosen.contains(arch));
    let mut items = Vec::new();
    for arch in archs {
        nvrtc.check(arch)?;
        items.extend(catalogue::items(arch)?);
    }
    items.retain(|item| item.matches(&arguments.filter));
    Ok(items)
}

fn compile(items: &[Item], nvrtc: &Nvrtc) -> Result<Report> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kernels, {eta} left")?;
    let progress = ProgressBar::new(items.len() as u64).with_style(style);
    let audited = items
        .par_iter()
        .progress_with(progress)
        .map(|item| audit::audit(item, nvrtc));
    Ok(Report {
        kernels: audited.collect(),
    })
}
