//! Devices: a client for one, or the reason why there is none, and never a panic.
//!
//! A [`Client`] is CubeCL's handle on a device: cheap to clone, shared by everything that runs there. Any client will
//! do for the functions of this crate, whoever made it; those made here are the ones that CubeCL itself hands out for
//! the same device, so buffers move freely between this crate and other users of CubeCL.

#[cfg(feature = "cuda")]
mod cuda;
mod limits;
#[cfg(feature = "hopper")]
#[doc(hidden)]
pub mod nvidia;
#[cfg(feature = "hopper")]
#[doc(hidden)]
pub mod nvrtc;
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
mod wgpu;

use cubecl::prelude::Client;

use crate::error::{Error, Result};

#[cfg(feature = "cuda")]
pub use cuda::cuda;
pub use limits::{Device, DeviceClass};
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
pub use wgpu::wgpu;

/// The best device that this build can use: the first CUDA device if the crate has feature `cuda` and the machine has
/// one, else what [`wgpu`](wgpu()) finds.
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

pub(crate) fn no_device(backend: &'static str, reason: impl ToString) -> Error {
    Error::NoDevice {
        backend,
        reason: reason.to_string(),
    }
}
