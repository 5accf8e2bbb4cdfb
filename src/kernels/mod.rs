//! When and where: one folder a schedule, one file a kernel.

pub(crate) mod portable;
