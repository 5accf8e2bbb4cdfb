//! The device that a command computes on.

use anyhow::Result;
use clap::ValueEnum;
use diff_flash_attn::{Client, DType, device};

use crate::setup;

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
            Backend::Cuda => Ok(device::cuda(0)?),
        }
    }
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
