//! When and where: a folder for each family of kernels, and the passes that belong to none.

#[cfg(feature = "hopper")]
pub(crate) mod hopper;
pub(crate) mod passes;
pub(crate) mod portable;
#[cfg(feature = "hopper")]
pub(crate) mod warp;
