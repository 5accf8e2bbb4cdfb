//! Where a program looks for CUDA, so that it finds the simulated driver.

use std::ffi::OsString;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use cuda_device::{Arch, Nvrtc};
use cudriver::Settings;

/// Environment variables of a program that is to run on the simulated driver.
pub struct Environment {
    libraries: PathBuf,
    toolkit: PathBuf,
    settings: Settings,
}

/// What the driver shows of the card that stands for an architecture.
pub fn settings(arch: Arch) -> Settings {
    let gpu = arch.gpu();
    Settings {
        compute_capability: gpu.compute_capability,
        multiprocessors: gpu.multiprocessors,
        shared_memory: gpu.shared_memory,
        ..Settings::default()
    }
}

impl Environment {
    /// Makes a folder with the driver, the compiler and its headers under the names that programs ask for. `driver` is
    /// the library that `tools/cudriver` builds.
    ///
    /// # Errors
    /// If the driver is missing, or the folder cannot be written.
    pub fn new(folder: &Path, driver: &Path, nvrtc: &Nvrtc) -> Result<Self> {
        if !driver.exists() {
            let missing = format!("{}: build tools/cudriver first", driver.display());
            return Err(Error::new(ErrorKind::NotFound, missing));
        }
        let (libraries, toolkit) = (folder.join("lib"), folder.join("toolkit"));
        let headers = toolkit.join("include");
        fs::create_dir_all(&libraries)?;
        fs::create_dir_all(&headers)?;
        link(driver, &libraries.join("libcuda.so"))?;
        if let Some(compiler) = nvrtc.path().parent() {
            link_all(compiler, &libraries)?;
        }
        for folder in nvrtc.headers() {
            link_all(folder, &headers)?;
        }
        Ok(Self {
            libraries,
            toolkit,
            settings: Settings::default(),
        })
    }

    /// The same with these devices.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Names and values; libraries are looked for where they were before, too.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut libraries = self.libraries.clone().into_os_string();
        if !before.is_empty() {
            libraries.push(":");
            libraries.push(before);
        }
        let mut variables = self.settings.variables();
        variables.push(("LD_LIBRARY_PATH", libraries));
        variables.push(("CUDA_PATH", self.toolkit.clone().into()));
        variables
    }
}

/// Everything in a folder, under the same names in another.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        link(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn link(file: &Path, name: &Path) -> Result<()> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(std::path::absolute(file)?, name)
}
