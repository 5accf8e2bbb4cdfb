//! NVRTC as the tools find it, with what it has compiled before.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use diff_flash_attn::device::nvrtc::{self, Compiled};

use crate::arch::Arch;
use crate::cache::Cache;

/// Where a CUDA toolkit, and where NVIDIA's Python packages installed with `pip --target`, keep the library.
const LIBRARIES: &[&str] = &[
    "lib64",
    "lib",
    "bin",
    "bin/x64",
    "nvidia/cuda_nvrtc/lib",
    "nvidia/cuda_nvrtc/bin",
    "nvidia/cu13/lib",
];

/// Where they keep the headers that kernels include.
const HEADERS: &[&str] = &[
    "include",
    "include/cccl",
    "nvidia/cuda_runtime/include",
    "nvidia/cuda_cccl/include",
    "nvidia/cuda_nvcc/include",
    "nvidia/cu13/include",
    "nvidia/cu13/include/cccl",
];

/// What CubeCL's CUDA runtime compiles with, beside the architecture and the headers.
const OPTIONS: &[&str] = &["-lineinfo"];

/// The same, and the assembler says what the machine code needs.
const OPTIONS_VERBOSE: &[&str] = &["-lineinfo", "--ptxas-options=-v"];

/// NVIDIA's run-time compiler.
///
/// What it compiles is kept in files and taken from there the next time, by any process. The environment variable
/// `PTX_CACHE` names their folder, or says `off`.
pub struct Nvrtc {
    library: nvrtc::Nvrtc,
    /// What tells this library from others of its version.
    bytes: u64,
    cache: Option<Cache>,
}

impl Nvrtc {
    /// NVRTC of the toolkit that the environment variable `CUDA_PATH` names, else of the packages that
    /// `cargo xtask audit` installs in this repository.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn find() -> Result<Self> {
        let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/cuda-wheels");
        let root = std::env::var_os("CUDA_PATH").unwrap_or_else(|| packages.into());
        Self::open(Path::new(&root))
    }

    /// Loads NVRTC from `root`: a CUDA toolkit, or a folder with NVIDIA's Python packages.
    ///
    /// # Errors
    /// If there is no NVRTC or no header folder below `root`, or the library does not load.
    pub fn open(root: &Path) -> Result<Self> {
        let folders = LIBRARIES.iter().map(|folder| root.join(folder));
        let Some(path) = folders.filter_map(|folder| find_library(&folder)).next() else {
            bail!(
                "no NVRTC library below {}, looked in {LIBRARIES:?}",
                root.display()
            );
        };
        let headers = HEADERS.iter().map(|folder| root.join(folder));
        let headers: Vec<_> = headers.filter(|folder| folder.is_dir()).collect();
        ensure!(
            !headers.is_empty(),
            "no CUDA headers below {}, looked in {HEADERS:?}",
            root.display()
        );
        let bytes = std::fs::metadata(&path)?.len();
        Ok(Self {
            library: nvrtc::Nvrtc::open(&path, headers)?,
            bytes,
            cache: Cache::chosen(),
        })
    }

    /// The same compiler with its files in this folder, or without files.
    #[must_use]
    pub fn with_cache(self, folder: Option<&Path>) -> Self {
        let cache = folder.map(|folder| Cache::new(folder.into()));
        Self { cache, ..self }
    }

    /// Version of the library, as in `12.9`.
    pub fn version(&self) -> String {
        self.library.version()
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        self.library.path()
    }

    /// Folders of the headers that kernels include.
    pub fn headers(&self) -> &[PathBuf] {
        self.library.headers()
    }

    /// Whether it compiles for an architecture.
    ///
    /// # Errors
    /// If the library is older than the architecture.
    pub fn check(&self, arch: Arch) -> Result<()> {
        let (version, known) = (self.version(), self.library.architectures());
        ensure!(
            known.contains(&arch.compute_capability()),
            "NVRTC {version} does not compile for {arch}: sm_100a and sm_120a need 12.8 or later"
        );
        Ok(())
    }

    /// Compiles CUDA C++ for an architecture, with the options of CubeCL's CUDA runtime, down to machine code, so
    /// that the log reports what the machine code needs.
    ///
    /// # Errors
    /// The compiler's log if it refuses the source.
    pub fn compile(&self, source: &str, arch: Arch) -> Result<Compiled> {
        self.compile_with(source, &arch.to_string(), OPTIONS_VERBOSE)
    }

    /// Compiles CUDA C++ for an architecture: to PTX and no further.
    ///
    /// # Errors
    /// The compiler's log if it refuses the source.
    pub fn ptx(&self, source: &str, arch: Arch) -> Result<String> {
        Ok(self
            .compile_with(source, &arch.virtual_name(), OPTIONS)?
            .ptx)
    }

    fn compile_with(&self, source: &str, arch: &str, options: &[&str]) -> Result<Compiled> {
        let compile = || Ok(self.library.compile(source, arch, options)?);
        let Some(cache) = &self.cache else {
            return compile();
        };
        let (version, headers) = (self.version(), self.headers());
        let key = Cache::key(&(version, self.bytes, headers, arch, options, source));
        if let Some(compiled) = cache.get(&key) {
            return Ok(compiled);
        }
        let compiled = compile()?;
        let folder = cache.folder().display();
        cache.put(&key, &compiled).with_context(|| {
            format!("writing to {folder}; PTX_CACHE names another folder, or off")
        })?;
        Ok(compiled)
    }
}

fn find_library(folder: &Path) -> Option<PathBuf> {
    let is_nvrtc = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("libnvrtc.so") || (name.starts_with("nvrtc64_") && name.ends_with(".dll"))
    };
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut found: Vec<_> = entries
        .filter(|entry| is_nvrtc(&entry.file_name()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.into_iter().next()
}
