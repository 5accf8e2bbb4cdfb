//! CUDA's devices: the driver, NVRTC and the toolkit's headers must all be there.

use cubecl::prelude::Client;
use cubecl_cuda::{CudaDevice, CudaRuntime};
use cubecl_runtime::runtime::Runtime;

use super::no_device;
use crate::error::Result;

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
pub fn cuda(index: usize) -> Result<Client> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_cuda_device_is_an_error() {
        let missing = cuda(9999).map(drop).unwrap_err().to_string();
        assert!(missing.starts_with("cuda: no device"), "{missing}");
    }
}
