//! When and where: one folder a schedule, one file a kernel.

#[cfg(feature = "hopper")]
pub(crate) mod hopper;
pub(crate) mod portable;
