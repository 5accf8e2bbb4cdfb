//! The device that a command computes on.

use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use diff_flash_attn::{Client, DType, device};

use crate::{setup, workspace};

/// Ways to a device.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Vulkan, Metal or DirectX 12; a software Vulkan driver is installed if there is none.
    Wgpu,
    /// The first CUDA device.
    Cuda,
}

impl Backend {
    /// A client of the device.
    pub(crate) fn client(self) -> Result<Client> {
        match self {
            Backend::Wgpu => {
                setup::vulkan()?;
                Ok(device::wgpu()?)
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda => Ok(device::cuda(0)?),
            #[cfg(not(feature = "cuda"))]
            Backend::Cuda => anyhow::bail!("built without feature cuda"),
        }
    }

    /// Whether this build lacks the way to the device.
    pub(crate) fn is_missing(self) -> bool {
        self == Backend::Cuda && !cfg!(feature = "cuda")
    }
}

/// Runs the same command again, built with CUDA. Whether it says success.
pub(crate) fn rerun_with_cuda() -> Result<bool> {
    let mut command: Command = workspace::cargo();
    command.args(["run", "--bin", "xtask", "--features", "xtask/cuda", "--"]);
    let status = command.args(std::env::args_os().skip(1)).status();
    Ok(status.context("cannot start cargo")?.success())
}

/// How query, key, value, output and their gradients are stored.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Storage {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Storage {
    /// The library's name for it.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Storage::F32 => DType::F32,
            Storage::F16 => DType::F16,
            Storage::Bf16 => DType::BF16,
        }
    }
}
