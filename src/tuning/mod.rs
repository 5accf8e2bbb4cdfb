//! Settings of the kernels: what they are, what limits them, and the table that chooses them.

mod limits;
mod settings;
mod table;

pub(crate) use limits::Limits;
pub use settings::{Pass, Plane, Settings};
pub(crate) use table::candidates;
pub use table::{DeviceClass, Shipped, shipped};
