//! From a recorded kernel to CUDA C++, by the compiler that the CUDA runtime uses.

use anyhow::{Result, anyhow};
use cubecl_core::define_kernel;
use cubecl_core::prelude::CubeKernel;
use cubecl_cpp::{shared::CppCompiler, target::Cuda};
use cubecl_server::kernel::CompiledKernel;

use crate::arch::Arch;

/// A kernel as CUDA C++.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name of the `__global__` function.
    pub entry: String,
    /// The whole translation unit.
    pub text: String,
    /// Units of a cube, in x, y and z.
    pub cube_dim: [u32; 3],
    /// Shared memory that a launch reserves, in bytes.
    pub shared_memory: usize,
}

/// Writes `kernel` as CUDA C++ for `arch`.
///
/// # Errors
/// What CubeCL says when it cannot expand or compile the kernel.
pub fn emit(kernel: &dyn CubeKernel, arch: Arch) -> Result<Source> {
    let refused = |error| anyhow!("CubeCL refuses the kernel: {error}");
    let definition = define_kernel(kernel).map_err(refused)?;
    let mut compiler = CppCompiler::<Cuda>::default();
    let options = arch.compilation_options();
    let compiled =
        CompiledKernel::compile(kernel, definition, &mut compiler, &options).map_err(refused)?;
    let cube = compiled.cube_dim;
    Ok(Source {
        entry: compiled.entrypoint_name,
        text: compiled.source,
        cube_dim: [cube.x, cube.y, cube.z],
        shared_memory: compiled.repr.map_or(0, |repr| repr.shared_memory_size),
    })
}
