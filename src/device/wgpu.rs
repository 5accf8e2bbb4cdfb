//! wgpu's devices: which adapter, and which language of kernels is sound on it.

use std::sync::{Mutex, PoisonError};

use cubecl::prelude::Client;
use cubecl_runtime::runtime::Runtime;
use cubecl_wgpu::{
    AutoGraphicsApi, RuntimeOptions, WgpuDevice, WgpuInitError, WgpuRuntime, WgslCompiler,
    try_init_setup,
};

use super::no_device;
use crate::error::Result;

/// The default device of wgpu: a discrete GPU before an integrated one before a software rasteriser, through Vulkan,
/// Metal, DirectX 12 or OpenGL. The environment variable `CUBECL_WGPU_DEFAULT_DEVICE` overrides the choice:
/// `DiscreteGpu(1)`, `IntegratedGpu(0)`, `Cpu`.
///
/// Kernels are compiled to SPIR-V with feature `vulkan` and to MSL with feature `metal` where the device takes them,
/// else to WGSL. SPIR-V is for drivers with `VK_KHR_workgroup_memory_explicit_layout`: where that is missing, CubeCL 0.11.3
/// declares pointers in the place of shared memory, and kernels crash or compute zeros.
///
/// In a browser a device can only be awaited: start it with `cubecl::wgpu::init_setup_async`.
///
/// ```
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = diff_flash_attn::device::wgpu()?;
/// assert!(client.name().starts_with("wgpu"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoDevice`] if the machine has no adapter, the adapter refuses, or `CUBECL_WGPU_DEFAULT_DEVICE` names
/// something else than an adapter of this machine.
pub fn wgpu() -> Result<Client> {
    let device = WgpuDevice::default();
    let sound = start_wgpu(&device)?;
    let client = <WgpuRuntime>::client(&device);
    if client.name() == "wgpu<spirv>" && !sound {
        return Ok(WgpuRuntime::<WgslCompiler>::client(&device));
    }
    Ok(client)
}

/// Registers `device` with CubeCL, once, through the only way that reports a failure instead of panicking. Whether SPIR-V
/// with shared memory is sound on it.
fn start_wgpu(device: &WgpuDevice) -> Result<bool> {
    static STARTED: Mutex<Option<bool>> = Mutex::new(None);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sound) = *started {
        return Ok(sound);
    }
    let setup = RuntimeOptions::try_default()
        .and_then(|options| try_init_setup::<AutoGraphicsApi>(device, options));
    let sound = match setup {
        Ok(setup) => lays_out_shared_memory(&setup.adapter),
        // Someone in this process has started the device already, and its adapter is out of reach.
        Err(WgpuInitError::Registration { .. }) => !is_software(),
        Err(error) => return Err(no_device("wgpu", error)),
    };
    *started = Some(sound);
    Ok(sound)
}

/// Whether wgpu's default device is a software rasteriser, few of which have the extension.
fn is_software() -> bool {
    match std::env::var("CUBECL_WGPU_DEFAULT_DEVICE") {
        Ok(kind) => kind == "Cpu",
        Err(_) => !<WgpuRuntime>::is_available(),
    }
}

/// Whether a Vulkan adapter takes the one form of shared memory that CubeCL writes as valid SPIR-V.
#[cfg(all(feature = "vulkan", not(target_vendor = "apple")))]
fn lays_out_shared_memory(adapter: &cubecl_wgpu::wgpu::Adapter) -> bool {
    use cubecl_wgpu::wgpu::hal::api::Vulkan;

    let extension = c"VK_KHR_workgroup_memory_explicit_layout";
    // SAFETY: the adapter is only asked what it has.
    let adapter = unsafe { adapter.as_hal::<Vulkan>() };
    adapter.is_none_or(|it| {
        it.physical_device_capabilities()
            .supports_extension(extension)
    })
}

/// This build writes no SPIR-V.
#[cfg(not(all(feature = "vulkan", not(target_vendor = "apple"))))]
fn lays_out_shared_memory(_adapter: &cubecl_wgpu::wgpu::Adapter) -> bool {
    true
}
