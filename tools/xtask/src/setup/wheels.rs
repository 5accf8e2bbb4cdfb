//! NVIDIA's run-time compiler and its headers from PyPI: CUDA kernels compile without a GPU, a driver or a toolkit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::process::{quiet, succeeds};
use crate::progress::spin;
use crate::workspace;

/// The packages, and the one place that says their versions. The last has headers that Burn's matrix products include.
const WHEELS: [&str; 4] = [
    "nvidia-cuda-nvrtc-cu12==12.9.*",
    "nvidia-cuda-runtime-cu12==12.9.*",
    "nvidia-cuda-cccl-cu12==12.9.*",
    "nvidia-cuda-nvcc-cu12==12.9.*",
];

/// The folder of the CUDA compiler wheels, where the audit and its tests look for them; it holds `nvidia/cuda_nvrtc`, `nvidia/cuda_runtime` and so on.
pub(crate) fn cuda_wheels() -> Result<PathBuf> {
    let folder = workspace::root().join("target/cuda-wheels");
    let (stamp, wanted) = (folder.join("installed"), WHEELS.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    if !succeeds("python3", &["-m", "pip", "--version"]) {
        apt::install("pip", &["python3-pip"])?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    spin("Fetching the CUDA compiler from PyPI", || {
        quiet(pip_install().arg(&folder).args(WHEELS))
    })
    .context("the CUDA compiler could not be installed")?;
    fs::write(stamp, wanted)?;
    Ok(folder)
}

/// `pip install` into a folder, whose path comes next: it needs no virtual environment, and leaves the system's alone.
fn pip_install() -> Command {
    let mut command = Command::new("python3");
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    command
        .args(install)
        .args(["--no-deps", "--only-binary=:all:", "--target"]);
    command
}
