//! Every test of the workspace on every device at hand, then the CUDA compile audit; one summary line ends it.

mod tally;

use std::process::Command;

use anyhow::Result;

use crate::process::stream;
use crate::{setup, workspace};
use tally::Tally;

/// Which of the steps to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Do not run the device tests again on SwiftShader.
    #[arg(long)]
    no_swiftshader: bool,
    /// Do not compile the kernels with NVIDIA's compiler.
    #[arg(long)]
    no_audit: bool,
}

/// Runs the steps one after the other, all of them whatever fails. Whether nothing failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let steps = steps(options)?;
    let mut total = Tally::default();
    for (name, command) in steps {
        total += step(name, command)?;
    }
    println!("\n{total}");
    Ok(total.failed == 0)
}

/// The steps, after everything that they need is installed.
fn steps(options: &Options) -> Result<Vec<(&'static str, Command)>> {
    setup::vulkan()?;
    let mut steps = vec![("All tests, default adapter", cargo_test())];
    if wanted("SwiftShader", options.no_swiftshader, "--no-swiftshader") {
        let mut command = cargo_test();
        command.args(["--test", "*"]);
        setup::swiftshader()?.select(&mut command);
        steps.push(("Device tests, SwiftShader", command));
    }
    if wanted("CUDA audit", options.no_audit, "--no-audit") {
        let mut command = workspace::cargo();
        command
            .args(["run", "--bin", "audit", "--", "--cuda"])
            .arg(setup::cuda_wheels()?);
        steps.push(("CUDA audit", command));
    }
    Ok(steps)
}

/// All tests of the workspace: one selection of packages for every step, so that nothing is built twice.
fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command
}

/// Whether to run a step; says why not.
fn wanted(name: &str, refused: bool, option: &str) -> bool {
    let reason = match (refused, cfg!(target_os = "linux")) {
        (true, _) => option,
        (false, false) => "needs Linux",
        (false, true) => return true,
    };
    println!("\n==> {name}: skipped ({reason})");
    false
}

/// Runs one step under its header. What it counted; a failure that it did not count is one more, and so is a step that
/// counted nothing.
fn step(name: &str, mut command: Command) -> Result<Tally> {
    println!("\n==> {name}");
    let mut tally = Tally::default();
    let success = stream(&mut command, |line| {
        let part = Tally::parse(line);
        tally += part.unwrap_or_default();
        // The line of our own form must stand once, at the end.
        if part.is_none() || line.starts_with("test result") {
            println!("{line}");
        }
    })?;
    if tally.failed == 0 && (!success || tally.passed == 0) {
        tally.failed = 1;
    }
    println!("{name}: {tally}");
    Ok(tally)
}
