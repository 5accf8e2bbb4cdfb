//! The compiler, its options and its results: a compiler that only refuses.

use core::ffi::c_char;
use core::fmt;

use cubecl_core::{Compiler, ir::nvidia::SmArch, prelude::KernelDefinition};
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::{compiler::CompilationError, kernel::BufferIOAttr};

use crate::nvptx::ptx_version::PtxVersion;

const REFUSAL: &str =
    "LLVM is left out of this build; CUDA kernels need cubecl's feature `cuda-cpp`";

/// What would be compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LlvmTarget {
    /// NVIDIA GPUs.
    #[default]
    Nvptx,
}

/// Refuses every kernel.
#[derive(Debug, Clone, Default)]
pub struct PlironCompiler {
    /// Not read.
    pub target: LlvmTarget,
}

/// Options, none of them read.
#[derive(Debug, Clone, Default)]
pub struct PlironOptions {
    /// AMD architecture.
    pub arch: Option<()>,
    /// NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// Newest PTX that the driver loads.
    pub ptx_version: Option<PtxVersion>,
    /// Whether kernel arguments are passed as grid constants.
    pub grid_constants: bool,
    /// One field more than `cubecl-cuda` names, so that its `..Default::default()` has something to fill.
    pub other: (),
}

/// A compiled NVIDIA kernel; never made.
#[derive(Debug, Clone)]
pub struct NvptxModule {
    /// PTX with a final zero.
    pub ptx: Vec<c_char>,
    /// Name of the kernel in the PTX.
    pub entrypoint: String,
    /// LLVM's intermediate representation, for logs.
    pub ir: String,
    /// Dynamic shared memory, in bytes.
    pub shared_memory_size: usize,
    /// Which buffers are read and written.
    pub io: Vec<BufferIOAttr>,
}

/// What the compiler would return; never made.
#[derive(Debug, Clone)]
pub enum PlironArtifact {
    /// A kernel for NVIDIA GPUs.
    NvptxCode(NvptxModule),
    /// A kernel for anything else, so that `cubecl-cuda`'s last match arm can be reached.
    Other,
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REFUSAL)
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: REFUSAL.into(),
            backtrace: BackTrace::capture(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm-ir"
    }
}
