//! NVIDIA's run-time compiler, loaded from a folder when it is needed: nothing of CUDA is linked.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use anyhow::{Context, Result, bail, ensure};
use libloading::Library;

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

type Program = *mut c_void;
type Status = c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> Status;
type GetText = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type CreateProgram = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> Status;
type CompileProgram = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
type DestroyProgram = unsafe extern "C" fn(*mut Program) -> Status;
type GetErrorString = unsafe extern "C" fn(Status) -> *const c_char;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;

/// A loaded NVRTC and the headers beside it.
pub struct Nvrtc {
    create: CreateProgram,
    compile: CompileProgram,
    destroy: DestroyProgram,
    log_size: GetSize,
    log: GetText,
    ptx_size: GetSize,
    ptx: GetText,
    cubin_size: GetSize,
    cubin: GetText,
    error: GetErrorString,
    version: (c_int, c_int),
    path: PathBuf,
    headers: Vec<PathBuf>,
    /// Keeps the functions above loaded.
    _library: Library,
}

/// What NVRTC made of a source.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The PTX.
    pub ptx: String,
    /// The machine code, if it was compiled for a real architecture.
    pub machine_code: Vec<u8>,
    /// Everything the compiler and the assembler `ptxas` had to say.
    pub log: String,
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
        Self::load(&path, headers).with_context(|| format!("loading {}", path.display()))
    }

    fn load(path: &Path, headers: Vec<PathBuf>) -> Result<Self> {
        // SAFETY: the file is NVIDIA's library, whose initialisers ask nothing of the caller.
        let library = unsafe { Library::new(path)? };
        // SAFETY: the types are those of nvrtc.h, and `library` is kept as long as the functions.
        unsafe {
            let mut version = (0, 0);
            let get_version = *library.get::<Version>(b"nvrtcVersion")?;
            get_version(&mut version.0, &mut version.1);
            Ok(Self {
                create: *library.get(b"nvrtcCreateProgram")?,
                compile: *library.get(b"nvrtcCompileProgram")?,
                destroy: *library.get(b"nvrtcDestroyProgram")?,
                log_size: *library.get(b"nvrtcGetProgramLogSize")?,
                log: *library.get(b"nvrtcGetProgramLog")?,
                ptx_size: *library.get(b"nvrtcGetPTXSize")?,
                ptx: *library.get(b"nvrtcGetPTX")?,
                cubin_size: *library.get(b"nvrtcGetCUBINSize")?,
                cubin: *library.get(b"nvrtcGetCUBIN")?,
                error: *library.get(b"nvrtcGetErrorString")?,
                version,
                path: path.into(),
                headers,
                _library: library,
            })
        }
    }

    /// Version of the library, as in `12.9`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folders of the headers that kernels include.
    pub fn headers(&self) -> &[PathBuf] {
        &self.headers
    }

    /// Compiles CUDA C++ for a real architecture, with the options of CubeCL's CUDA runtime, down to machine code, so
    /// that the log reports what the machine code needs.
    ///
    /// # Errors
    /// The compiler's log if it refuses the source.
    pub fn compile(&self, source: &str, arch: &str) -> Result<Compiled> {
        self.compile_with(source, arch, &["-lineinfo", "--ptxas-options=-v"])
    }

    /// Compiles CUDA C++ for a virtual architecture, as `compute_90a`: to PTX and no further.
    ///
    /// # Errors
    /// The compiler's log if it refuses the source.
    pub fn ptx(&self, source: &str, arch: &str) -> Result<String> {
        Ok(self.compile_with(source, arch, &["-lineinfo"])?.ptx)
    }

    fn compile_with(&self, source: &str, arch: &str, more: &[&str]) -> Result<Compiled> {
        let program = self.program(source)?;
        let include = |folder: &PathBuf| format!("--include-path={}", folder.display());
        let mut options: Vec<_> = self.headers.iter().map(include).collect();
        options.push(format!("--gpu-architecture={arch}"));
        options.extend(more.iter().map(ToString::to_string));
        let options = options.into_iter().map(CString::new);
        let options = options.collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: `program` is alive and `pointers` point into `options`.
        let status =
            unsafe { (self.compile)(program.raw, pointers.len() as c_int, pointers.as_ptr()) };
        let log = self.text(&program, self.log_size, self.log)?;
        if status != 0 {
            bail!("NVRTC: {}\n{log}", self.reason(status));
        }
        let ptx = self.text(&program, self.ptx_size, self.ptx)?;
        let machine_code = self.bytes(&program, self.cubin_size, self.cubin)?;
        Ok(Compiled {
            ptx,
            machine_code,
            log,
        })
    }

    fn program(&self, source: &str) -> Result<OwnedProgram<'_>> {
        let source = CString::new(source)?;
        let mut raw = ptr::null_mut();
        let (name, none) = (ptr::null(), ptr::null());
        // SAFETY: `source` ends with a zero and is copied; there are no headers to name.
        self.check(unsafe { (self.create)(&mut raw, source.as_ptr(), name, 0, none, none) })?;
        Ok(OwnedProgram { nvrtc: self, raw })
    }

    fn text(&self, program: &OwnedProgram<'_>, size: GetSize, get: GetText) -> Result<String> {
        let text = self.bytes(program, size, get)?;
        let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }

    fn bytes(&self, program: &OwnedProgram<'_>, size: GetSize, get: GetText) -> Result<Vec<u8>> {
        let mut len = 0;
        // SAFETY: `program` is alive.
        self.check(unsafe { size(program.raw, &mut len) })?;
        let mut bytes = vec![0_u8; len];
        if len > 0 {
            // SAFETY: `bytes` has the size that was asked for, the final zero of a text included.
            self.check(unsafe { get(program.raw, bytes.as_mut_ptr().cast()) })?;
        }
        Ok(bytes)
    }

    fn check(&self, status: Status) -> Result<()> {
        ensure!(status == 0, "NVRTC: {}", self.reason(status));
        Ok(())
    }

    fn reason(&self, status: Status) -> String {
        // SAFETY: NVRTC has a static text for every status, unknown ones included.
        let text = unsafe { CStr::from_ptr((self.error)(status)) };
        text.to_string_lossy().into_owned()
    }
}

/// A program that is destroyed with its value.
struct OwnedProgram<'a> {
    nvrtc: &'a Nvrtc,
    raw: Program,
}

impl Drop for OwnedProgram<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is alive and not used again.
        unsafe { (self.nvrtc.destroy)(&mut self.raw) };
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
