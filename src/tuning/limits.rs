//! What a device allows.

use cubecl::features::Plane as PlaneFeature;
use cubecl::prelude::*;

use crate::error::{Error, Result};
use crate::tuning::{DeviceClass, Plane, Settings};

/// Limits of a device that settings must respect.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub device: String,
    pub class: DeviceClass,
    /// Units of a cube.
    pub units: usize,
    /// Shared memory of a cube in bytes.
    pub shared_memory: usize,
    /// Least and greatest number of units in a plane.
    pub plane_min: usize,
    pub plane_max: usize,
    /// Whether the runtime says that plane operations work. On CPU adapters CubeCL says no though some do.
    pub planes: bool,
    /// Cubes along each axis of the grid.
    pub cubes: [usize; 3],
    /// Loop iterations of one unit. Mesa's CPU driver ends a unit after 65,535 of them, without an error.
    pub loops: usize,
}

impl Limits {
    pub(crate) fn of(client: &Client) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (x, y, z) = hardware.max_cube_count;
        let device = properties.identity.name.clone();
        let class = DeviceClass::of(client);
        Self {
            class,
            loops: if class == DeviceClass::Lavapipe {
                60_000
            } else {
                usize::MAX
            },
            device,
            units: hardware.max_units_per_cube as usize,
            shared_memory: hardware.max_shared_memory_size,
            plane_min: hardware.plane_size_min as usize,
            plane_max: hardware.plane_size_max as usize,
            planes: properties.features.plane.contains(PlaneFeature::Ops),
            cubes: [x as usize, y as usize, z as usize],
        }
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
            device: self.device.clone(),
        })
    }

    /// The grid, refused if the device has not as many cubes.
    pub(crate) fn grid(&self, cubes: [usize; 3]) -> Result<CubeCount> {
        for (got, limit) in cubes.into_iter().zip(self.cubes) {
            self.check("cubes along an axis of the grid", got, limit)?;
        }
        let [x, y, z] = cubes.map(|n| n as u32);
        Ok(CubeCount::Static(x, y, z))
    }

    /// A setting of the table as this device can run it: without planes where it has none.
    pub(crate) fn adapt(&self, settings: Settings) -> Settings {
        let reduces = self.planes && settings.units_x <= self.plane_min;
        match settings.plane {
            Plane::Reduce if !reduces => Settings {
                plane: Plane::Unused,
                ..settings
            },
            _ => settings,
        }
    }
}
