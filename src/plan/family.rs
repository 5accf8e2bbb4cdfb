//! Families of kernels, and the passes of a call that they can have kernels for.

/// The families of kernels. Which of them a build has follows from the crate's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// For every device and every problem.
    Portable,
    /// Forward and backward for f16 and bf16 through CUDA on compute capability 9.0 (H100, H200), with the dimensions of its
    /// table. Every stride and the start of query, key, value and the output's gradient must be a multiple of 16 bytes; for
    /// gradients, halves of a value that lie apart have a multiple of 64 columns. Needs the feature `hopper`, which `cuda`
    /// includes.
    Hopper,
    /// Forward and backward for f16 and bf16 through CUDA on compute capability 8.0 and later (A100, RTX 30, 40 and 50, L40),
    /// with head dimensions that are multiples of 16 up to 256. Every row of query, key, value and the output's gradient must
    /// begin at a multiple of 16 bytes. Needs the feature `hopper`, which `cuda` includes. It is taken where it is asked for,
    /// with [`Tuning::of`](crate::Tuning::of) or settings of its own.
    Mma,
}

impl core::fmt::Display for Family {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Family::Portable => "portable",
            Family::Hopper => "hopper",
            Family::Mma => "mma",
        })
    }
}

/// The passes that have settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pass {
    /// Output from inputs; rows of a tile are queries, columns are keys.
    Forward,
    /// Gradient of the query; rows are queries, columns are keys.
    QueryGradient,
    /// Gradients of key and value; rows are keys, columns are queries.
    KeyValueGradient,
}

impl core::fmt::Display for Pass {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward",
            Pass::QueryGradient => "query-gradient",
            Pass::KeyValueGradient => "key-value-gradient",
        })
    }
}
