//! NVIDIA's disassembler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

/// The program `nvdisasm`.
#[derive(Debug, Clone)]
pub struct Nvdisasm {
    program: PathBuf,
}

impl Nvdisasm {
    /// Looks in a CUDA toolkit, or in a folder into which NVIDIA's Python packages were installed.
    ///
    /// # Errors
    /// If it is not there.
    pub fn find(cuda: &Path) -> Result<Self> {
        let packages = fs::read_dir(cuda.join("nvidia")).into_iter().flatten();
        let folders = packages.filter_map(|entry| Some(entry.ok()?.path()));
        let programs = [cuda.to_path_buf()].into_iter().chain(folders);
        let mut programs = programs.map(|folder| folder.join("bin/nvdisasm"));
        let program = programs.find(|program| program.exists());
        let program = program.with_context(|| format!("no nvdisasm in {}", cuda.display()))?;
        Ok(Self { program })
    }

    /// The text of some machine code, with encodings.
    ///
    /// # Errors
    /// If the program does not start, or does not know the machine code.
    pub fn listing(&self, machine_code: &[u8]) -> Result<String> {
        static FILES: AtomicUsize = AtomicUsize::new(0);

        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let name = format!("loops-{}-{number}.cubin", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, machine_code).with_context(|| format!("writing {}", file.display()))?;
        let output = Command::new(&self.program)
            .args(["-c", "-hex"])
            .arg(&file)
            .output();
        fs::remove_file(&file)?;
        let output = output.context("nvdisasm does not start")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nvdisasm: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
