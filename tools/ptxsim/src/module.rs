//! Loaded modules.

use crate::decode;
use crate::error::{Error, Result};
use crate::ir::Code;
use crate::ptx::{self, Kernel};
use crate::target::Target;

/// Decoded PTX.
pub struct Module {
    kernels: Vec<(Kernel, Code)>,
    target: Option<Target>,
    pub(crate) data: Vec<u8>,
    pub(crate) source: String,
}

impl Module {
    /// Parses and decodes PTX.
    ///
    /// # Errors
    /// On the first line that is not understood, or that the target does not have; nothing that could change a result is ignored.
    pub fn load(source: &str) -> Result<Self> {
        let load = || {
            let text = ptx::parse(source)?;
            let kernels = text.kernels.into_iter();
            let kernels = kernels.map(|kernel| {
                let code = decode::decode(&kernel, text.target)?;
                Ok((kernel, code))
            });
            Ok(Self {
                kernels: kernels.collect::<Result<_>>()?,
                target: text.target,
                data: text.data,
                source: source.into(),
            })
        };
        load().map_err(|error: Error| error.quote(source))
    }

    /// Whether a GPU of this compute capability, as one number (90 is 9.0), would take it.
    pub fn runs_on(&self, compute_capability: u32) -> bool {
        let target = self.target;
        target.is_none_or(|target| target.runs_on(compute_capability))
    }

    /// Names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|(kernel, _)| kernel.name.as_str())
    }

    /// Bytes of each parameter of a kernel; none if there is no such kernel.
    pub fn parameters(&self, name: &str) -> impl Iterator<Item = usize> {
        let kernel = self.kernel(name).ok();
        let parameters = kernel.into_iter().flat_map(|(kernel, _)| &kernel.params);
        parameters.map(|parameter| parameter.bytes)
    }

    pub(crate) fn kernel(&self, name: &str) -> Result<&(Kernel, Code)> {
        let mut kernels = self.kernels.iter();
        kernels
            .find(|(kernel, _)| kernel.name == name)
            .ok_or_else(|| {
                let all: Vec<_> = self.kernels().collect();
                Error::usage(format!("there is no kernel {name}, only {all:?}"))
            })
    }
}
