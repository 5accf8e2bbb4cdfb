//! What the CUDA compiler makes of every kernel that the library launches, on a machine with no GPU.
//!
//! The way of a kernel through this crate:
//! 1. A [`Recorder`] pretends to be a device of an [`Arch`]; the library's public functions run on it and it keeps
//!    the kernels they launch. So what is audited is what a user of the library would launch, settings included.
//! 2. [`source::emit`] writes each kernel as CUDA C++, with the compiler of CubeCL's CUDA runtime.
//! 3. [`Nvrtc`] compiles that to PTX and machine code and reports registers, local memory and spills: [`Resources`].
//! 4. [`Report`] is the table of them all. A kernel fails if it does not compile or if registers do not suffice.
//!
//! CubeCL hands a GPU's driver PTX, so the machine code that runs is made by the driver's own assembler. To know what
//! that one does, use an NVRTC of the same CUDA version as the driver.

pub mod arch;
mod case;
pub mod catalogue;
pub mod nvrtc;
pub mod recorder;
pub mod report;
pub mod resources;
pub mod source;

pub use arch::Arch;
pub use nvrtc::Nvrtc;
pub use recorder::{Kernel, Recorder};
pub use report::Report;
pub use resources::Resources;

use anyhow::Result;

use crate::source::Source;

/// A kernel to audit.
pub struct Item {
    /// The kernel, as it was launched.
    pub kernel: Kernel,
    /// What it was launched for, in words that tell it from its siblings: the settings, the problem.
    pub settings: String,
    /// The architecture to compile for: that of the [`Recorder`] it was launched on.
    pub arch: Arch,
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
    /// The CUDA C++, if it got so far.
    pub source: Option<Source>,
    /// The PTX and what its machine code needs, or why there is none.
    pub outcome: Result<(String, Resources)>,
    /// Where that machine code spills: what it needs if `ptxas` may not trade registers for more cubes at once.
    pub untraded: Option<Resources>,
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

    /// Whether the kernel compiles and has registers enough. A kernel has not if it spills with all the registers that a
    /// thread can have. By default `ptxas` also spills a few bytes where that lets another cube run beside the others,
    /// which is its choice and no shortage; the report shows those bytes, too.
    pub fn passed(&self) -> bool {
        let spills = |needs: &Resources| needs.spills();
        match (&self.outcome, &self.untraded) {
            (Err(_), _) => false,
            (Ok(_), Some(untraded)) => !spills(untraded),
            (Ok((_, needs)), None) => !spills(needs),
        }
    }
}

/// Compiles a kernel and measures what it needs.
pub fn audit(item: &Item, nvrtc: &Nvrtc) -> Audited {
    let (source, outcome) = match source::emit(&*item.kernel, item.arch) {
        Ok(source) => {
            let outcome = compile(&source.text, item.arch, nvrtc);
            (Some(source), outcome)
        }
        Err(error) => (None, Err(error)),
    };
    let untraded = match (&source, &outcome) {
        (Some(source), Ok((_, needs))) if needs.spills() => {
            let again = compile(&untraded(&source.text), item.arch, nvrtc);
            again.ok().map(|(_, needs)| needs)
        }
        _ => None,
    };
    Audited {
        kernel: item.kernel.id().short_name().to_string(),
        settings: item.settings.clone(),
        arch: item.arch,
        source,
        outcome,
        untraded,
    }
}

fn compile(source: &str, arch: Arch, nvrtc: &Nvrtc) -> Result<(String, Resources)> {
    let compiled = nvrtc.compile(source, &arch.to_string())?;
    if std::env::var("SHOWLOG").is_ok() {
        eprintln!("{}", compiled.log);
    }
    let resources = Resources::parse(&compiled.log)?;
    Ok((compiled.ptx, resources))
}

/// The source with the launch bounds of a kernel that need not share its multiprocessor. CubeCL leaves the number of
/// cubes open, and `ptxas` then aims at several.
fn untraded(source: &str) -> String {
    let bounds = "__launch_bounds__(";
    let Some(at) = source.find(bounds).map(|at| at + bounds.len()) else {
        return source.to_string();
    };
    let end = source[at..].find(')').map_or(source.len(), |end| at + end);
    format!("{}, 1{}", &source[..end], &source[end..])
}
