//! What measured: GPU, driver, CUDA, date and version of the library.

use core::fmt;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

/// One machine on one day.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Version of the library.
    library: &'static str,
    /// As `nvidia-smi` tells it: name and driver.
    gpu: String,
    /// Version of the CUDA toolkit whose NVRTC compiles the kernels.
    cuda: String,
    /// UTC.
    date: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let smi = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
        Self {
            library: concat!("diff-flash-attn ", env!("CARGO_PKG_VERSION")),
            gpu: output("nvidia-smi", &smi),
            cuda: cuda_version().unwrap_or_else(|| "unknown".into()),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            library,
            gpu,
            cuda,
            date,
        } = self;
        write!(f, "{library}, GPU {gpu}, CUDA {cuda}, {date}")
    }
}

/// First line that a command prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(|_| vec![], |output| output.stdout);
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").trim().to_string()
}

/// Where a CUDA toolkit is.
fn cuda_folder() -> PathBuf {
    std::env::var_os("CUDA_PATH").map_or("/usr/local/cuda".into(), PathBuf::from)
}

/// The version that the toolkit's folder names.
fn cuda_version() -> Option<String> {
    let text = std::fs::read_to_string(cuda_folder().join("version.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(json["cuda"]["version"].as_str()?.to_string())
}
