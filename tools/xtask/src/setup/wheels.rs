//! NVIDIA's run-time compiler and its headers from PyPI: CUDA kernels compile without a GPU, a driver or a toolkit.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::process::{quiet, succeeds};
use crate::progress::spin;
use crate::workspace;

/// Versions of the compiler.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cuda {
    /// CUDA 12.9: the first choice, with GPUs up to the first Blackwell.
    #[value(name = "12")]
    Cuda12,
    /// CUDA 13.0.
    #[value(name = "13")]
    Cuda13,
}

impl Cuda {
    /// The packages, and the one place that says their versions. The last have headers that Burn's matrix products include.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Cuda::Cuda12 => &[
                "nvidia-cuda-nvrtc-cu12==12.9.*",
                "nvidia-cuda-runtime-cu12==12.9.*",
                "nvidia-cuda-cccl-cu12==12.9.*",
                "nvidia-cuda-nvcc-cu12==12.9.*",
            ],
            Cuda::Cuda13 => &[
                "nvidia-cuda-nvrtc==13.0.*",
                "nvidia-cuda-runtime==13.0.*",
                "nvidia-cuda-cccl==13.0.*",
                "nvidia-cuda-crt==13.0.*",
            ],
        }
    }

    /// Below the target folder. Tests look for that of the first choice.
    fn folder(self) -> &'static str {
        match self {
            Cuda::Cuda12 => "target/cuda-wheels",
            Cuda::Cuda13 => "target/cuda-wheels-13",
        }
    }
}

/// The folder of the CUDA compiler wheels that tests, the simulator and, if not told otherwise, the audit use.
pub(crate) fn cuda_wheels() -> Result<PathBuf> {
    wheels(Cuda::Cuda12)
}

/// The folder of the wheels of a version; below it are `nvidia/cuda_nvrtc`, `nvidia/cuda_runtime` and so on.
pub(crate) fn wheels(cuda: Cuda) -> Result<PathBuf> {
    let packages = cuda.packages();
    let folder = workspace::root().join(cuda.folder());
    let (stamp, wanted) = (folder.join("installed"), packages.join("\n"));
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
        quiet(pip_install().arg(&folder).args(packages))
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
