//! What all targets of the LLVM compiler share.

/// Features that the LLVM compiler can honour.
pub mod lowered_features {
    use cubecl_core::ir::DeviceProperties;

    /// A GPU target of the LLVM compiler.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum GpuTarget {
        /// NVIDIA GPUs.
        Nvptx,
    }

    /// Would take away the features that LLVM cannot honour; as no kernel gets past the compiler, it takes none.
    pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
}
