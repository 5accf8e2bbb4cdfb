//! Where a program looks for CUDA, so that it finds the simulated driver.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use cuda_device::Nvrtc;

/// Environment variables of a program that is to run on the simulated driver.
pub struct Environment {
    libraries: PathBuf,
    toolkit: PathBuf,
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
        Ok(Self { libraries, toolkit })
    }

    /// Names and values; libraries are looked for where they were before, too.
    pub fn variables(&self) -> [(&'static str, std::ffi::OsString); 2] {
        let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut libraries = self.libraries.clone().into_os_string();
        if !before.is_empty() {
            libraries.push(":");
            libraries.push(before);
        }
        [
            ("LD_LIBRARY_PATH", libraries),
            ("CUDA_PATH", self.toolkit.clone().into()),
        ]
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
