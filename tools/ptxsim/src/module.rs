//! Loaded modules.

use crate::decode;
use crate::error::{Error, Result};
use crate::ir::Code;
use crate::ptx::{self, Kernel};

/// Decoded PTX.
pub struct Module {
    kernels: Vec<(Kernel, Code)>,
    pub(crate) data: Vec<u8>,
    pub(crate) source: String,
}

impl Module {
    /// Parses and decodes PTX.
    ///
    /// # Errors
    /// On the first line that is not understood; nothing that could change a result is ignored.
    pub fn load(source: &str) -> Result<Self> {
        let load = || {
            let text = ptx::parse(source)?;
            let kernels = text.kernels.into_iter();
            let kernels = kernels.map(|kernel| {
                let code = decode::decode(&kernel)?;
                Ok((kernel, code))
            });
            Ok(Self {
                kernels: kernels.collect::<Result<_>>()?,
                data: text.data,
                source: source.into(),
            })
        };
        load().map_err(|error: Error| error.quote(source))
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
