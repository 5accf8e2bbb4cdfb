//! Settings of the kernels: what they are, what limits them, and the table that chooses them.

mod hopper;
mod limits;
mod settings;
mod table;

pub use hopper::{HopperSettings, HopperShipped, MaskKind, hopper_shipped};
pub(crate) use limits::Limits;
pub use settings::{Pass, Plane, Schedule, Settings};
pub(crate) use table::candidates;
pub use table::{DeviceClass, Shipped, shipped};
