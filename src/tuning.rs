//! Settings of the kernels: what they are, the tables that choose them, and all that a device could run.

pub use crate::device::DeviceClass;
#[cfg(feature = "hopper")]
pub use crate::kernels::hopper::HopperSettings;
#[cfg(feature = "hopper")]
pub use crate::kernels::mma::MmaSettings;
pub use crate::kernels::portable::{Plane, PortableSettings};
pub use crate::kernels::{MaskKind, Measured, Settings, Shipped, Tuning, candidates, shipped};
pub use crate::plan::{Family, Pass};
