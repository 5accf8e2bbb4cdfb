//! Devices: a client for one, or the reason why there is none, and never a panic.
//!
//! A [`Client`] is CubeCL's handle on a device: cheap to clone, shared by everything that runs there. Any client will
//! do for the functions of this crate, whoever made it; those made here are the ones that CubeCL itself hands out for
//! the same device, so buffers move freely between this crate and other users of CubeCL.

#[cfg(feature = "hopper")]
#[doc(hidden)]
pub mod nvidia;
#[cfg(feature = "hopper")]
#[doc(hidden)]
pub mod nvrtc;

use cubecl::prelude::Client;

use crate::error::{Error, Result};

/// The best device that this build can use: the first CUDA device if the crate has feature `cuda` and the machine has
/// one, else what [`wgpu`] finds.
///
/// ```
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// use diff_flash_attn::device;
/// let client = device::default_client()?;
/// println!("{}", device::describe(&client));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoDevice`] with what each runtime of this build said.
pub fn default_client() -> Result<Client> {
    let mut reasons: Vec<String> = Vec::new();
    for start in STARTS {
        match start() {
            Ok(client) => return Ok(client),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if reasons.is_empty() {
        reasons.push("the crate was built with neither feature `wgpu` nor `cuda`".into());
    }
    Err(no_device("any runtime", reasons.join("; ")))
}

/// Ways to a device in this build, best first.
const STARTS: &[fn() -> Result<Client>] = &[
    #[cfg(feature = "cuda")]
    || cuda(0),
    #[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
    wgpu,
];

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
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
pub fn wgpu() -> Result<Client> {
    use cubecl_runtime::runtime::Runtime;
    use cubecl_wgpu::{WgpuDevice, WgpuRuntime, WgslCompiler};

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
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
fn start_wgpu(device: &cubecl_wgpu::WgpuDevice) -> Result<bool> {
    use cubecl_wgpu::{AutoGraphicsApi, RuntimeOptions, WgpuInitError, try_init_setup};
    use std::sync::{Mutex, PoisonError};

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
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
fn is_software() -> bool {
    use cubecl_runtime::runtime::Runtime;

    match std::env::var("CUBECL_WGPU_DEFAULT_DEVICE") {
        Ok(kind) => kind == "Cpu",
        Err(_) => !<cubecl_wgpu::WgpuRuntime>::is_available(),
    }
}

/// Whether a Vulkan adapter takes the one form of shared memory that CubeCL writes as valid SPIR-V.
#[cfg(all(
    feature = "vulkan",
    not(target_vendor = "apple"),
    not(target_family = "wasm")
))]
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
#[cfg(all(
    feature = "wgpu",
    not(all(feature = "vulkan", not(target_vendor = "apple"))),
    not(target_family = "wasm")
))]
fn lays_out_shared_memory(_adapter: &cubecl_wgpu::wgpu::Adapter) -> bool {
    true
}

/// CUDA device number `index`, as the driver counts them.
///
/// Kernels are compiled on this machine, so beside the driver it needs the NVRTC library and the headers of a CUDA
/// toolkit, found through the environment variable `CUDA_PATH` or in `/usr/local/cuda`.
///
/// ```
/// use diff_flash_attn::{Error, device};
/// match device::cuda(0) {
///     Ok(client) => println!("{}", device::describe(&client)),
///     Err(Error::NoDevice { reason, .. }) => println!("no CUDA here: {reason}"),
///     Err(other) => panic!("{other}"),
/// }
/// ```
///
/// # Errors
/// [`Error::NoDevice`] if there is no driver, no device of that number, no NVRTC, no toolkit, or the driver refuses.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize) -> Result<Client> {
    use cubecl_cuda::{CudaDevice, CudaRuntime};
    use cubecl_runtime::runtime::Runtime;

    let refuse = |reason: &str| Err(no_device("cuda", reason));
    let devices = CudaRuntime::enumerate_devices(0).len();
    if index >= devices {
        return refuse(&format!("no number {index}, the driver shows {devices}"));
    }
    // SAFETY: this only tries to load the library.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return refuse("the NVRTC library (libnvrtc) is not found");
    }
    if cubecl_cuda::install::cuda_path().is_none() {
        return refuse("no CUDA toolkit is found; set CUDA_PATH to its folder");
    }
    // The runtime has no fallible start. A panic here leaves nothing behind: the device is not registered.
    std::panic::catch_unwind(|| CudaRuntime::client(&CudaDevice::new(index)))
        .or_else(|_| refuse("the runtime did not start; its panic message says why"))
}

/// One line about a client's device: the runtime, the adapter's name, units in a plane, shared memory of a cube.
///
/// ```
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// use diff_flash_attn::device;
/// let line = device::describe(&device::default_client()?);
/// assert!(line.contains("KiB of shared memory"), "{line}");
/// # Ok(())
/// # }
/// ```
pub fn describe(client: &Client) -> String {
    let hardware = &client.properties().hardware;
    let plane = match (hardware.plane_size_min, hardware.plane_size_max) {
        (least, most) if least == most => format!("{most}"),
        (least, most) => format!("{least} to {most}"),
    };
    format!(
        "{} on {}: planes of {plane} units, {} KiB of shared memory",
        client.name(),
        client.properties().identity.name,
        hardware.max_shared_memory_size / 1024,
    )
}

fn no_device(backend: &'static str, reason: impl ToString) -> Error {
    Error::NoDevice {
        backend,
        reason: reason.to_string(),
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::*;

    #[test]
    fn missing_cuda_device_is_an_error() {
        let missing = cuda(9999).map(drop).unwrap_err().to_string();
        assert!(missing.starts_with("cuda: no device"), "{missing}");
    }
}
