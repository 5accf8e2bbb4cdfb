//! What a bare machine lacks: one function per need, which does nothing where the need is met.

mod apt;
mod vulkan;
mod wheels;

pub(crate) use vulkan::{SwiftShader, swiftshader, vulkan};
pub(crate) use wheels::{Cuda, cuda_wheels, wheels};
