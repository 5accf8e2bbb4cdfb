//! NVIDIA's run-time compiler, loaded from a file when it is needed: nothing of CUDA is linked.

use std::ffi::{CStr, CString, NulError, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

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
type GetVersion = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
type GetCount = unsafe extern "C" fn(*mut c_int) -> Status;
type GetNumbers = unsafe extern "C" fn(*mut c_int) -> Status;

/// Names under which a system has the library, the newest first.
const SYSTEM: [&str; 3] = if cfg!(windows) {
    ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc.dll"]
} else {
    ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]
};

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NvrtcError {
    /// The library does not load.
    #[error("{} does not load: {source}", path.display())]
    Load {
        /// The file, or the name that the system was asked for.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// A GPU that came after the library, or that it no longer knows.
    #[error("NVRTC {version} does not know {architecture}, only compute capabilities {known:?}")]
    Architecture {
        /// The GPU asked for.
        architecture: String,
        /// Version of the library, as in `12.9`.
        version: String,
        /// Those it knows: 90 is 9.0.
        known: Vec<u32>,
    },
    /// A source or an option with a zero in it.
    #[error("a text for NVRTC has a zero in it: {0}")]
    Zero(#[from] NulError),
    /// The compiler refuses the source.
    #[error("NVRTC: {reason}\n{log}")]
    Refused {
        /// What the status means.
        reason: String,
        /// What the compiler had to say about the source.
        log: String,
    },
}

type Result<T> = std::result::Result<T, NvrtcError>;

/// What NVRTC made of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The PTX.
    pub ptx: String,
    /// The machine code, if it was compiled for a real architecture.
    pub machine_code: Vec<u8>,
    /// Everything the compiler and the assembler `ptxas` had to say.
    pub log: String,
}

/// A loaded NVRTC and the headers that kernels include. It compiles on any number of threads at once.
pub struct Nvrtc {
    functions: Functions,
    version: (c_int, c_int),
    architectures: Vec<u32>,
    path: PathBuf,
    headers: Vec<PathBuf>,
    /// Keeps the functions loaded, for good: unloaded while another thread ends or the process does, the library crashes it.
    _library: ManuallyDrop<Library>,
    _builtins: ManuallyDrop<Option<Library>>,
}

/// Those of `nvrtc.h`.
struct Functions {
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
    version: GetVersion,
    architecture_count: GetCount,
    architectures: GetNumbers,
}

impl Functions {
    /// # Safety
    /// The library is NVRTC, and stays loaded as long as the functions are called.
    unsafe fn load(library: &Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: the types are those of nvrtc.h.
        unsafe {
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
                version: *library.get(b"nvrtcVersion")?,
                architecture_count: *library.get(b"nvrtcGetNumSupportedArchs")?,
                architectures: *library.get(b"nvrtcGetSupportedArchs")?,
            })
        }
    }
}

impl Nvrtc {
    /// The library that the system finds by its name, with headers in these folders.
    ///
    /// # Errors
    /// [`NvrtcError::Load`] if there is none.
    pub fn system(headers: Vec<PathBuf>) -> Result<Self> {
        let open = |name: &str| Self::open(Path::new(name), headers.clone());
        let [newest, others @ ..] = SYSTEM;
        others.iter().fold(open(newest), |found, name| {
            found.or_else(|error| open(name).map_err(|_| error))
        })
    }

    /// The library in a file, with headers in these folders.
    ///
    /// # Errors
    /// [`NvrtcError::Load`] if it does not load or lacks a function.
    pub fn open(path: &Path, headers: Vec<PathBuf>) -> Result<Self> {
        let builtins = load_builtins(path);
        let load = || {
            // SAFETY: the file is NVIDIA's library, whose initialisers ask nothing of the caller.
            let library = unsafe { Library::new(path)? };
            // SAFETY: as above, and the library is kept with the functions.
            let functions = unsafe { Functions::load(&library)? };
            Ok((library, functions))
        };
        let (library, functions) = load().map_err(|source| NvrtcError::Load {
            path: path.into(),
            source,
        })?;
        let mut nvrtc = Self {
            functions,
            version: (0, 0),
            architectures: Vec::new(),
            path: path.into(),
            headers,
            _library: ManuallyDrop::new(library),
            _builtins: ManuallyDrop::new(builtins),
        };
        let (major, minor) = (&mut nvrtc.version.0, &mut nvrtc.version.1);
        // SAFETY: results go to fields.
        let status = unsafe { (nvrtc.functions.version)(major, minor) };
        nvrtc.check(status)?;
        nvrtc.architectures = nvrtc.known_architectures()?;
        Ok(nvrtc)
    }

    fn known_architectures(&self) -> Result<Vec<u32>> {
        let mut count = 0;
        // SAFETY: the result goes to a local.
        self.check(unsafe { (self.functions.architecture_count)(&mut count) })?;
        let mut numbers = vec![0; count as usize];
        // SAFETY: as many numbers as were announced.
        self.check(unsafe { (self.functions.architectures)(numbers.as_mut_ptr()) })?;
        Ok(numbers.into_iter().map(|number| number as u32).collect())
    }

    /// Version of the library, as in `12.9`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Compute capabilities that it compiles for: 90 is 9.0.
    pub fn architectures(&self) -> &[u32] {
        &self.architectures
    }

    /// The library's file, or the name that the system found it by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folders of the headers that kernels include.
    pub fn headers(&self) -> &[PathBuf] {
        &self.headers
    }

    /// Compiles CUDA C++ for an architecture, as `sm_90a` or `compute_90a`, with further options. For a virtual one, as the
    /// latter, there is no machine code.
    ///
    /// # Errors
    /// [`NvrtcError::Architecture`], or [`NvrtcError::Refused`] with the compiler's log.
    pub fn compile(&self, source: &str, architecture: &str, options: &[&str]) -> Result<Compiled> {
        self.check_architecture(architecture)?;
        let program = self.program(source)?;
        let options = self.options(architecture, options)?;
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let count = pointers.len() as c_int;
        let Functions {
            log_size,
            log,
            ptx_size,
            ptx,
            cubin_size,
            cubin,
            ..
        } = self.functions;
        // SAFETY: `program` is alive and `pointers` point into `options`.
        let status = unsafe { (self.functions.compile)(program.raw, count, pointers.as_ptr()) };
        let log = self.text(&program, log_size, log)?;
        if status != 0 {
            let reason = self.reason(status);
            return Err(NvrtcError::Refused { reason, log });
        }
        Ok(Compiled {
            ptx: self.text(&program, ptx_size, ptx)?,
            machine_code: self.bytes(&program, cubin_size, cubin)?,
            log,
        })
    }

    /// The library itself says no more of an architecture it does not know than that the option is invalid.
    fn check_architecture(&self, architecture: &str) -> Result<()> {
        let digits = architecture.trim_matches(|c: char| !c.is_ascii_digit());
        let known = digits.parse().map(|it| self.architectures.contains(&it));
        match known {
            Ok(false) => Err(NvrtcError::Architecture {
                architecture: architecture.into(),
                version: self.version(),
                known: self.architectures.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn options(&self, architecture: &str, more: &[&str]) -> Result<Vec<CString>> {
        let include = |folder: &PathBuf| format!("--include-path={}", folder.display());
        let mut options: Vec<_> = self.headers.iter().map(include).collect();
        options.push(format!("--gpu-architecture={architecture}"));
        options.extend(more.iter().map(ToString::to_string));
        let options = options.into_iter().map(CString::new);
        Ok(options.collect::<std::result::Result<_, _>>()?)
    }

    fn program(&self, source: &str) -> Result<OwnedProgram<'_>> {
        let source = CString::new(source)?;
        let mut raw = ptr::null_mut();
        let (name, none) = (ptr::null(), ptr::null());
        let create = self.functions.create;
        // SAFETY: `source` ends with a zero and is copied; there are no headers to name.
        self.check(unsafe { create(&mut raw, source.as_ptr(), name, 0, none, none) })?;
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
        match status {
            0 => Ok(()),
            _ => Err(NvrtcError::Refused {
                reason: self.reason(status),
                log: String::new(),
            }),
        }
    }

    fn reason(&self, status: Status) -> String {
        // SAFETY: NVRTC has a static text for every status, unknown ones included.
        let text = unsafe { CStr::from_ptr((self.functions.error)(status)) };
        text.to_string_lossy().into_owned()
    }
}

/// A second file that NVRTC opens by its name when it compiles. The packages of CUDA 13 do not say where it lies, which is
/// beside the library; one that is loaded already is found.
fn load_builtins(library: &Path) -> Option<Library> {
    let files = std::fs::read_dir(library.parent()?).ok()?;
    let mut names = files.filter_map(|file| Some(file.ok()?.file_name()));
    let name = names.find(|name| {
        let name = name.to_string_lossy();
        name.starts_with("libnvrtc-builtins.so")
    })?;
    // SAFETY: the file is NVIDIA's as well, and its initialisers ask nothing of the caller.
    unsafe { Library::new(library.with_file_name(name)) }.ok()
}

/// A program that is destroyed with its value.
struct OwnedProgram<'a> {
    nvrtc: &'a Nvrtc,
    raw: Program,
}

impl Drop for OwnedProgram<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is alive and not used again.
        unsafe { (self.nvrtc.functions.destroy)(&mut self.raw) };
    }
}
