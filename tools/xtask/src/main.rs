//! Project commands: `cargo xtask <command>`.

mod audit;
mod count;
mod demo;
mod device;
mod errors;
mod golden_cases;
mod gpu;
mod models;
mod process;
mod progress;
mod setup;
mod test;
#[cfg(target_os = "linux")]
mod without_gpu;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Commands of the diff-flash-attn project. Each installs first what this machine lacks for it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test: on the default adapter, again on SwiftShader, and the CUDA compile audit.
    Test(test::Options),
    /// A differential attention layer on real text: check it, time it, draw its attention maps.
    Demo(demo::Options),
    /// Compute golden cases, dumps of other implementations, and compare every output and gradient with them.
    Golden(golden_cases::Options),
    /// Compile every CUDA kernel with every shipped setting, and list registers, shared memory and spills.
    Audit(audit::Options),
    /// Count what kernels execute and move, in the PTX simulator: instructions, bytes, bank conflicts, waits, tensor cycles.
    Count(count::Options),
    /// Build the program that checks and times every kernel on a GPU, and run it.
    Gpu(gpu::Options),
    /// Train a language model with differential attention in Burn.
    #[command(disable_help_flag = true)]
    Train(models::Options),
    /// Load a DiffLlama checkpoint of Hugging Face into Burn, compare its logits, continue a text.
    #[command(disable_help_flag = true)]
    Load(models::Options),
    /// Run a program for CUDA on a machine without a GPU: its kernels run in a simulator.
    #[cfg(target_os = "linux")]
    WithoutGpu(without_gpu::Options),
}

fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Outside of a desktop session Mesa's device chooser finds no display to ask, and prints an error each time.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything the command checks holds.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Golden(options) => golden_cases::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Count(options) => count::run(&options),
        Command::Gpu(options) => gpu::run(&options),
        Command::Train(options) => models::run("train", &options),
        Command::Load(options) => models::run("load", &options),
        #[cfg(target_os = "linux")]
        Command::WithoutGpu(options) => without_gpu::run(&options),
    }
}
