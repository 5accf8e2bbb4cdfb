//! Every test of the workspace on every device at hand, then the CUDA compile audit; one summary line ends it.

mod tally;

use std::process::Command;

use anyhow::Result;

use crate::audit;
use crate::process::stream;
use crate::setup::{self, SwiftShader};
use crate::workspace;
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
    let mut total = Tally::default();
    for (name, command) in steps(options) {
        println!("\n==> {name}");
        let tally = command.and_then(count).unwrap_or_else(|error| {
            println!("error: {error:#}");
            Tally {
                passed: 0,
                failed: 1,
            }
        });
        println!("{name}: {tally}");
        total += tally;
    }
    println!("\n{total}");
    Ok(total.failed == 0)
}

/// The steps, each with what it needs installed, or with the reason why that was not possible.
fn steps(options: &Options) -> Vec<(&'static str, Result<Command>)> {
    let audited = wanted("CUDA audit", options.no_audit, "--no-audit");
    // Before the tests, as those that simulate CUDA kernels compile them.
    let wheels = audited.then(setup::cuda_wheels);
    let mut steps = vec![(
        "All tests, default adapter",
        setup::vulkan().map(|()| cargo_test()),
    )];
    if wanted("SwiftShader", options.no_swiftshader, "--no-swiftshader") {
        steps.push((
            "Device tests, SwiftShader",
            setup::swiftshader().map(device_tests),
        ));
    }
    if let Some(wheels) = wheels {
        steps.push(("CUDA audit", wheels.map(|wheels| audit::command(&wheels))));
    }
    steps
}

/// All tests of the workspace: one selection of packages for every step, so that nothing is built twice.
fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command
}

/// Integration tests that compute on the device.
const DEVICE_TESTS: [&str; 8] = [
    "bad_input",
    "determinism",
    "forward_backward",
    "golden",
    "memory",
    "numerics",
    "properties",
    "settings",
];

/// Device tests on a second device; one after the other, since SwiftShader's compiler slows down with several callers.
fn device_tests(driver: SwiftShader) -> Command {
    let mut command = cargo_test();
    command.args(DEVICE_TESTS.iter().flat_map(|test| ["--test", test]));
    command.args(["--", "--test-threads=1"]);
    driver.select(&mut command);
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

/// Runs a step and counts. A failure that it did not count is one more, and so is a step that counted nothing.
fn count(mut command: Command) -> Result<Tally> {
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
    Ok(tally)
}
