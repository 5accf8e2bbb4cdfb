//! The device that a command computes on.

use anyhow::Result;
use burn::tensor::{Device, DeviceKind};
use clap::ValueEnum;
use cubecl::ir::{ElemType, FloatKind};
use diff_flash_attn::{Client, device};

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

/// A device that is open.
pub(crate) struct Open {
    pub(crate) device: Device,
    /// What it is called.
    pub(crate) name: String,
    /// Whether Burn's products of f32 matrices round their inputs to TF32, 10 bits of mantissa, for its tensor cores.
    pub(crate) tf32: bool,
}

impl Open {
    fn new(device: Device, client: &Client) -> Self {
        let tf32 = ElemType::Float(FloatKind::TF32);
        Self {
            device,
            name: device::describe(client),
            tf32: client.properties().supports_type(tf32),
        }
    }
}

impl Backend {
    /// The device, if the machine has it.
    pub(crate) fn open(self) -> Result<Open> {
        // Burn reads the state of an optimizer to its default device, which would be the CUDA device even of a machine
        // that has none.
        // SAFETY: no device is open, so no other thread runs.
        unsafe { std::env::set_var("BURN_DEVICE", self.burns_name()) };
        Ok(match self {
            Backend::Wgpu => {
                let client = device::wgpu()?;
                Open::new(Device::wgpu(DeviceKind::DefaultDevice), &client)
            }
            Backend::Cuda => {
                let client = device::cuda(0)?;
                Open::new(Device::cuda(0), &client)
            }
            Backend::Cpu => Open {
                device: Device::flex(),
                name: "the CPU, composed form".into(),
                tf32: false,
            },
        })
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
    ["llvmpipe", "SwiftShader", "CPU", "simulator"]
        .iter()
        .any(|driver| name.contains(driver))
}

#[cfg(test)]
mod tests {
    use super::is_software;

    #[test]
    fn a_gpu_is_told_from_software_by_its_name() {
        let of = |device| is_software(&format!("{device}: planes of 32 units"));
        let gpus = [
            "wgpu<wgsl> on NVIDIA H200",
            "cuda on NVIDIA GeForce RTX 4090",
            "wgpu<msl> on Apple M3",
        ];
        assert!(!gpus.into_iter().any(of));
        let drivers = [
            "wgpu<wgsl> on llvmpipe (LLVM 15.0.6, 256 bits)",
            "wgpu<wgsl> on SwiftShader Device (LLVM 10.0.0)",
            "cuda on PTX simulator (sm_90a)",
            "the CPU, composed form",
        ];
        assert!(drivers.into_iter().all(of));
    }
}
