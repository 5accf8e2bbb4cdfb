//! Trains byte-level language models with differential attention in Burn, and loads published ones.

mod checkpoint;
mod device;
mod load;
mod model;
mod plot;
mod sample;
mod schedule;
mod text;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Language models with differential attention in Burn.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a byte-level language model on text, or go on with the training of one.
    Train(train::Options),
    /// Load a DiffLlama checkpoint of Hugging Face, compare its logits, and let it continue a text of token ids.
    Load(load::Options),
}

fn main() -> ExitCode {
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
        Command::Train(options) => train::run(&options).map(|()| true),
        Command::Load(options) => load::run(&options),
    }
}
