//! What the CUDA compiler makes of every kernel that the library launches, on a machine with no GPU.
//!
//! The way of a kernel through this crate:
//! 1. A [`Recorder`](cuda_device::Recorder) pretends to be a device of an [`Arch`]; the library's public functions run on it
//!    and it keeps the kernels they launch. So what is audited is what a user of the library would launch, settings included.
//! 2. [`source::emit`] writes each kernel as CUDA C++, with the compiler of CubeCL's CUDA runtime.
//! 3. [`Nvrtc`] compiles that to PTX and machine code and reports registers, local memory and spills: [`Resources`].
//! 4. [`Report`] is the table of them all. A kernel fails if it does not compile or if registers do not suffice.
//!
//! CubeCL hands a GPU's driver PTX, so the machine code that runs is made by the driver's own assembler. To know what
//! that one does, use an NVRTC of the same CUDA version as the driver.

pub mod catalogue;
pub mod report;
pub mod resources;
pub mod sass;

pub use report::Report;
pub use resources::Resources;
pub use sass::Overlap;

use anyhow::Result;
use cuda_device::{Arch, Kernel, Nvrtc, Source, source};

/// A kernel to audit.
pub struct Item {
    /// The kernel, as it was launched.
    pub kernel: Kernel,
    /// What it was launched for, in words that tell it from its siblings: the settings, the problem.
    pub settings: String,
    /// The architecture to compile for: that of the recorder it was launched on.
    pub arch: Arch,
    /// Whether its exponentials are to be computed while products run.
    pub overlaps: bool,
    /// The most shared memory that its cube may take, in bytes.
    pub shared_memory: usize,
}

impl Item {
    /// Whether `text` is part of the kernel's name or its settings.
    pub fn matches(&self, text: &str) -> bool {
        self.kernel.id().short_name().contains(text) || self.settings.contains(text)
    }
}

/// An audited kernel.
pub struct Audited {
    /// Name of the kernel.
    pub kernel: String,
    /// Settings of its [`Item`].
    pub settings: String,
    /// Architecture of its [`Item`].
    pub arch: Arch,
    /// Whether its [`Item`] says that exponentials are hidden.
    pub overlaps: bool,
    /// What its [`Item`] allows it, in bytes.
    pub allowed_shared_memory: usize,
    /// The CUDA C++, if it got so far.
    pub source: Option<Source>,
    /// The PTX and what its machine code needs, or why there is none.
    pub outcome: Result<(String, Resources)>,
    /// Where the machine code has products of warpgroups: the exponentials while one is in flight.
    pub overlap: Option<Overlap>,
}

impl Audited {
    /// Shared memory of a cube, in bytes.
    pub fn shared_memory(&self) -> usize {
        let reserved = self
            .source
            .as_ref()
            .map_or(0, |source| source.shared_memory);
        let declared = self
            .outcome
            .as_ref()
            .map_or(0, |(_, needs)| needs.static_shared);
        reserved + declared
    }

    /// Why the kernel fails, if it does.
    ///
    /// `ptxas` spills where a thread needs more than 255 registers, and a few bytes where that lets another cube run beside
    /// the others: CubeCL does not tell it that shared memory leaves no room for one. Both are faults of the settings.
    pub fn fault(&self) -> Option<&'static str> {
        let Ok((_, needs)) = &self.outcome else {
            return Some("does not compile");
        };
        let hides = self.overlap.is_some_and(|overlap| overlap.passes());
        let faults = [
            (needs.spills(), "spills"),
            (self.overlap.is_some() && needs.stack > 0, "local memory"),
            (needs.loss, "performance loss, says the assembler"),
            (self.overlaps && !hides, "exponentials wait for products"),
            (
                self.shared_memory() > self.allowed_shared_memory,
                "shared memory",
            ),
        ];
        faults.iter().find(|(is, _)| *is).map(|(_, fault)| *fault)
    }

    /// Whether nothing is wrong with the kernel.
    pub fn passed(&self) -> bool {
        self.fault().is_none()
    }
}

/// Compiles a kernel and measures what it needs.
pub fn audit(item: &Item, nvrtc: &Nvrtc) -> Audited {
    let (source, compiled) = match source::emit(&*item.kernel, item.arch) {
        Ok(source) => {
            let compiled = compile(&source.text, item.arch, nvrtc);
            (Some(source), compiled)
        }
        Err(error) => (None, Err(error)),
    };
    let overlap = compiled.as_ref().ok().and_then(|compiled| compiled.overlap);
    Audited {
        kernel: item.kernel.id().short_name().to_string(),
        settings: item.settings.clone(),
        arch: item.arch,
        overlaps: item.overlaps,
        allowed_shared_memory: item.shared_memory,
        source,
        outcome: compiled.map(|compiled| (compiled.ptx, compiled.needs)),
        overlap,
    }
}

struct Compiled {
    ptx: String,
    needs: Resources,
    overlap: Option<Overlap>,
}

fn compile(source: &str, arch: Arch, nvrtc: &Nvrtc) -> Result<Compiled> {
    let compiled = nvrtc.compile(source, arch)?;
    Ok(Compiled {
        needs: Resources::parse(&compiled.log)?,
        overlap: Overlap::parse(&compiled.machine_code)?,
        ptx: compiled.ptx,
    })
}
