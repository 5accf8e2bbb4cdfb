//! The audit as a program sees it: its catalogue, its way from a kernel to machine code, and the build that it shares.

mod catalogue;
mod pipeline;
mod plans;
mod shared_build;
