//! What is kept of a counted launch.

use std::sync::{Arc, Mutex};

use ptxsim::{Counts, Traffic};

/// The launches so far.
pub(crate) type Log = Arc<Mutex<Vec<CountedLaunch>>>;

/// A counted launch.
#[derive(Debug, Clone)]
pub struct CountedLaunch {
    /// The kernel's name.
    pub kernel: String,
    /// Cubes of the grid.
    pub grid: [u32; 3],
    /// Units of a cube.
    pub cube: [u32; 3],
    /// Bytes of shared memory that the launch reserves for a cube.
    pub shared_memory: usize,
    /// The kernel's tensors, in the order of its arguments; one that it is given twice, once.
    pub tensors: Vec<Accessed>,
    /// What it did; its ranges of global memory are those of the tensors.
    pub counts: Counts,
}

/// A tensor of a launch, or another buffer.
#[derive(Debug, Clone, Copy)]
pub struct Accessed {
    /// Number of the buffer, see [`buffer`](crate::buffer).
    pub buffer: usize,
    /// Length in bytes.
    pub bytes: u64,
    /// What was read and written of it.
    pub traffic: Traffic,
}
