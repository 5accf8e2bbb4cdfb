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
        // Burn reads the state of an optimizer to its default device, which would be the CUDA device even of a machine
        // that has none.
        // SAFETY: no device is open, so no other thread runs.
        unsafe { std::env::set_var("BURN_DEVICE", self.burns_name()) };
        match self {
            Backend::Wgpu => {
                let name = device::describe(&device::wgpu()?);
                Ok((Device::wgpu(DeviceKind::DefaultDevice), name))
            }
            Backend::Cuda => {
                let name = device::describe(&device::cuda(0)?);
                Ok((Device::cuda(0), name))
            }
            Backend::Cpu => Ok((Device::flex(), "the CPU, composed form".into())),
        }
    }

    fn burns_name(self) -> &'static str {
        match self {
            Backend::Wgpu => "wgpu",
            Backend::Cuda => "cuda",
            Backend::Cpu => "flex",
        }
    }
}

/// Whether a device of that name computes in software.
pub(crate) fn is_software(name: &str) -> bool {
    ["llvmpipe", "SwiftShader", "CPU"]
        .iter()
        .any(|driver| name.contains(driver))
}
