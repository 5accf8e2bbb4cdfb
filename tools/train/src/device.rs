//! The device that a command computes on.

use anyhow::Result;
use burn::tensor::{Device, DeviceKind};
use clap::ValueEnum;
use diff_flash_attn::device;

/// Ways to a device.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Vulkan, Metal or DirectX 12.
    Wgpu,
    /// The first CUDA device.
    Cuda,
    /// The CPU, without the kernels: the composed form.
    Cpu,
}

impl Backend {
    /// The device, if the machine has it, and what it is called.
    pub(crate) fn open(self) -> Result<(Device, String)> {
        match self {
            Backend::Wgpu => {
                let name = device::describe(&device::wgpu()?);
                Ok((Device::wgpu(DeviceKind::DefaultDevice), name))
            }
            #[cfg(not(feature = "cuda"))]
            Backend::Cuda => anyhow::bail!("built without feature cuda"),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let name = device::describe(&device::cuda(0)?);
                Ok((Device::cuda(0), name))
            }
            Backend::Cpu => Ok((Device::flex(), "the CPU, composed form".into())),
        }
    }
}

/// Whether a device of that name computes in software.
pub(crate) fn is_software(name: &str) -> bool {
    ["llvmpipe", "SwiftShader", "CPU"]
        .iter()
        .any(|driver| name.contains(driver))
}
