//! The NVIDIA target.

/// Versions of the PTX language.
pub mod ptx_version {
    use core::fmt;

    /// A version of PTX. It has no values: only LLVM would ask for one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum PtxVersion {}

    impl PtxVersion {
        /// The newest version that a CUDA driver loads: always `None`, "not known".
        pub fn for_driver(_driver: i32) -> Option<Self> {
            None
        }
    }

    impl fmt::Display for PtxVersion {
        fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {}
        }
    }
}
