//! Tests on the simulated driver. A process looks for libraries where it was told to when it began, so each such test
//! is a process of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use cuda_device::Nvrtc;
use cudriver::Settings;

use crate::environment::Environment;

/// Says to a process that it has the driver.
const MARK: &str = "SIMULATED_CUDA_DRIVER";

/// Whether this process is one that [`with_driver`] started.
pub fn has_driver() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs `test`, the body of the test function of this `name`, where CUDA devices are simulated: in a new process of the
/// same test binary. Without NVRTC it prints a line to the terminal instead, though the test passes.
///
/// # Panics
/// If the test fails.
pub fn with_driver(name: &str, test: impl FnOnce()) {
    with_devices(name, Settings::default(), test);
}

/// The same with these devices.
///
/// # Panics
/// If the test fails.
pub fn with_devices(name: &str, settings: Settings, test: impl FnOnce()) {
    if has_driver() {
        return test();
    }
    let folder = tempfile::tempdir().unwrap();
    if let Some(environment) = environment(folder.path()) {
        again(name, &environment.with_settings(settings)).unwrap();
    }
}

/// What a program that a test starts must find, laid out in `folder`. Without NVRTC it prints a line to the terminal
/// instead, though the test passes.
///
/// # Panics
/// If the folder cannot be written.
pub fn environment(folder: &Path) -> Option<Environment> {
    let nvrtc = Nvrtc::find().map_err(|error| {
        let _ = writeln!(std::io::stderr(), "SKIPPED, nothing simulated: {error:#}");
    });
    // Cargo builds it with the test.
    let driver = std::env::current_exe().unwrap();
    let driver = driver.with_file_name("libcudriver.so");
    Some(Environment::new(folder, &driver, &nvrtc.ok()?).unwrap())
}

/// The same test in a process that finds the driver.
fn again(name: &str, environment: &Environment) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .envs(environment.variables());
    let output = command.output().context("the test did not start")?;
    let Output { stdout, stderr, .. } = &output;
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8_lossy(text));
    print!("{out}{err}");
    ensure!(
        output.status.success(),
        "{name} fails on the simulated driver"
    );
    ensure!(
        out.contains("test result: ok. 1 passed"),
        "there is no test {name}"
    );
    Ok(())
}
