//! Every test of the workspace on every device at hand, then the CUDA compile audit; one summary line ends it.

mod build;
mod job;
mod queue;
mod tally;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup::{self, SwiftShader};
use crate::workspace;
use build::{Kind, Program};
use job::Job;

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

/// Builds every program, then runs them all, whatever fails. Whether nothing failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let swiftshader = wanted("SwiftShader", options.no_swiftshader, "--no-swiftshader");
    let audited = wanted("CUDA audit", options.no_audit, "--no-audit");
    let vulkan = setup::vulkan();
    let swiftshader = swiftshader.then(setup::swiftshader);
    // Before the tests, as those that simulate CUDA kernels compile them.
    let wheels = audited.then(setup::cuda_wheels);

    let programs = build::programs()?;
    let mut jobs: Vec<Job> = programs.iter().filter_map(Job::test).collect();
    jobs.push(documentation());
    jobs.extend(swiftshader.map(|driver| device_tests(&programs, driver)));
    jobs.extend(wheels.map(|wheels| audit(&programs, wheels)));
    if let Err(error) = vulkan {
        jobs.push(Job::new("Vulkan", Err(error)));
    }
    let total = queue::run(jobs);
    println!("\n{total}");
    Ok(total.failed == 0)
}

/// The examples in the documentation.
fn documentation() -> Job {
    let mut command = workspace::cargo();
    command.args(["test", "--doc", "--workspace", "--no-fail-fast"]);
    Job::new("documentation", Ok(command))
}

/// What computes on a device, on a second one; one test after the other, since SwiftShader's compiler slows down with
/// several callers.
fn device_tests(programs: &[Program], driver: Result<SwiftShader>) -> Job {
    let command = driver.and_then(|driver| {
        let mut command = find(programs, Kind::Test, "device")?.command();
        command.arg("--test-threads=1");
        driver.select(&mut command);
        Ok(command)
    });
    Job::new("device on SwiftShader", command)
}

/// The audit, with the compiler in a folder.
fn audit(programs: &[Program], wheels: Result<PathBuf>) -> Job {
    let command = wheels.and_then(|wheels| {
        let mut command = find(programs, Kind::Binary, "audit")?.command();
        command.arg("--cuda").arg(wheels);
        Ok(command)
    });
    Job::new("CUDA audit", command)
}

fn find<'a>(programs: &'a [Program], kind: Kind, target: &str) -> Result<&'a Program> {
    let mut found = programs.iter();
    found
        .find(|program| program.kind == kind && program.target == target)
        .with_context(|| format!("cargo built no program {target}"))
}

/// Whether to run a step; says why not.
fn wanted(name: &str, refused: bool, option: &str) -> bool {
    let reason = match (refused, cfg!(target_os = "linux")) {
        (true, _) => option,
        (false, false) => "needs Linux",
        (false, true) => return true,
    };
    println!("SKIPPED {name}: {reason}");
    false
}
