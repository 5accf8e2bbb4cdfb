//! What a device is and what it allows.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cubecl::features::Plane as PlaneFeature;
use cubecl::prelude::*;
use cubecl_common::device::ServiceId;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// Devices that want different settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceClass {
    /// Mesa's lavapipe: a plane is a CPU vector, and a read of memory costs one read for each unit.
    Lavapipe,
    /// NVIDIA's GPUs, through CUDA or Vulkan: a unit can have 255 registers.
    Nvidia,
    /// Everything else.
    Gpu,
}

impl DeviceClass {
    /// The class of a client's device.
    pub fn of(client: &Client) -> Self {
        Self::named(client.name(), &client.properties().identity.name)
    }

    fn named(runtime: &str, device: &str) -> Self {
        if device.contains("llvmpipe") {
            DeviceClass::Lavapipe
        } else if runtime.starts_with("cuda") || device.contains("NVIDIA") {
            DeviceClass::Nvidia
        } else {
            DeviceClass::Gpu
        }
    }
}

/// A device as planning sees it: its name, class and limits, and no connection to it.
///
/// ```
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// use diff_flash_attn::device::{self, Device};
/// let device = Device::of(&device::default_client()?);
/// println!("{} can have {} bytes of shared memory a cube", device.name(), device.shared_memory());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    name: String,
    runtime: &'static str,
    pub(crate) class: DeviceClass,
    /// Of NVIDIA's GPUs through CUDA: major times ten and minor.
    pub(crate) compute_capability: Option<u32>,
    pub(crate) multiprocessors: Option<u32>,
    types: [bool; 3],
    /// Units of a cube.
    pub(crate) units: usize,
    /// Shared memory of a cube in bytes.
    pub(crate) shared_memory: usize,
    /// Least and greatest number of units in a plane.
    pub(crate) plane_min: usize,
    pub(crate) plane_max: usize,
    /// Whether the runtime says that plane operations work. On CPU adapters CubeCL says no though some do.
    pub(crate) planes: bool,
    /// Cubes along each axis of the grid.
    pub(crate) cubes: [usize; 3],
    /// Loop iterations of one unit. Mesa's CPU driver ends a unit after 65,535 of them, without an error.
    pub(crate) loops: usize,
}

impl Device {
    /// The device of a client; looked up again after the first time.
    pub fn of(client: &Client) -> Arc<Self> {
        static KNOWN: RwLock<Option<HashMap<ServiceId, Arc<Device>>>> = RwLock::new(None);

        let service = client.service_id();
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = known.as_ref().and_then(|known| known.get(&service)) {
            return device.clone();
        }
        drop(known);
        let device = Arc::new(Self::describe(client));
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        known.insert(service, device.clone());
        device
    }

    fn describe(client: &Client) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let identity = &properties.identity;
        let class = DeviceClass::named(client.name(), &identity.name);
        let (x, y, z) = hardware.max_cube_count;
        let fingerprint = identity.fingerprint.strip_prefix("ptx_sm");
        let cuda = client.name().starts_with("cuda");
        Self {
            name: identity.name.clone(),
            runtime: client.name(),
            class,
            compute_capability: fingerprint
                .filter(|_| cuda)
                .and_then(|digits| digits.parse().ok()),
            multiprocessors: hardware.num_streaming_multiprocessors,
            types: TYPES.map(|dtype| properties.supports_type(dtype.elem())),
            loops: match class {
                DeviceClass::Lavapipe => 60_000,
                _ => usize::MAX,
            },
            units: hardware.max_units_per_cube as usize,
            shared_memory: hardware.max_shared_memory_size,
            plane_min: hardware.plane_size_min as usize,
            plane_max: hardware.plane_size_max as usize,
            planes: properties.features.plane.contains(PlaneFeature::Ops),
            cubes: [x as usize, y as usize, z as usize],
        }
    }

    /// Name of the adapter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of CubeCL's runtime.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// Which settings the device wants.
    pub fn class(&self) -> DeviceClass {
        self.class
    }

    /// Compute capability of an NVIDIA GPU that is used through CUDA, as major times ten and minor: 90 for an H100.
    pub fn compute_capability(&self) -> Option<u32> {
        self.compute_capability
    }

    /// Shared memory that a cube can have, in bytes.
    pub fn shared_memory(&self) -> usize {
        self.shared_memory
    }

    /// Refuses a storage type that the device cannot load, store and convert.
    pub(crate) fn check_type(&self, dtype: DType) -> Result<()> {
        if self.types[dtype as usize] {
            return Ok(());
        }
        Err(Error::UnsupportedType {
            dtype,
            device: self.name.clone(),
        })
    }

    /// Refuses more of `resource` than the device has.
    pub(crate) fn check(&self, resource: &'static str, got: usize, limit: usize) -> Result<()> {
        if got <= limit {
            return Ok(());
        }
        Err(Error::DeviceLimit {
            resource,
            got,
            limit,
            device: self.name.clone(),
        })
    }

    /// The grid, refused if the device has not as many cubes.
    pub(crate) fn grid(&self, cubes: [usize; 3]) -> Result<[u32; 3]> {
        for (got, limit) in cubes.into_iter().zip(self.cubes) {
            self.check("cubes along an axis of the grid", got, limit)?;
        }
        Ok(cubes.map(|n| n as u32))
    }
}

/// Storage types in the order of their discriminants.
const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

impl DType {
    /// Refuses a type that the device cannot load, store and convert.
    ///
    /// ```
    /// use diff_flash_attn::{DType, device};
    /// # fn main() -> Result<(), diff_flash_attn::Error> {
    /// DType::F32.check(&device::default_client()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedType`].
    pub fn check(self, client: &Client) -> Result<()> {
        Device::of(client).check_type(self)
    }
}
