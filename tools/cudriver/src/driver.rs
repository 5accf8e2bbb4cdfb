//! The state behind the functions, and what they return.

use std::collections::HashMap;
use std::ffi::{c_char, c_uint};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::sys::{CUfunction, CUresult};
use ptxsim::{Device, Module};

use crate::raw::{Status, put};
use crate::settings::{Launched, Settings};

/// A module that is loaded.
pub(crate) type Loaded = Arc<Module>;

/// A kernel of a module.
pub(crate) struct Function {
    pub(crate) module: Loaded,
    pub(crate) name: String,
    /// Dynamic shared memory that a launch may have.
    pub(crate) shared: usize,
}

/// Everything that a process has on the devices. Handles are numbers from 1, given out once.
pub(crate) struct Driver {
    pub(crate) settings: Settings,
    /// What the devices have for a memory.
    pub(crate) device: Device,
    /// Bytes of each allocation, by its address.
    pub(crate) allocations: HashMap<u64, usize>,
    /// Bytes of each piece of host memory, by its address.
    pub(crate) host: HashMap<usize, usize>,
    pub(crate) modules: HashMap<usize, Loaded>,
    pub(crate) functions: HashMap<usize, Function>,
    /// When each event was recorded last.
    pub(crate) events: HashMap<usize, Option<Instant>>,
    handles: usize,
    record: Option<File>,
    /// What a kernel did, or settings that make no sense: from then on every call fails.
    fault: Option<CUresult>,
}

impl Driver {
    fn start() -> Self {
        let settings = Settings::read();
        let known = settings.is_ok();
        let settings = settings.unwrap_or_else(|error| {
            explain("its settings", error);
            Settings::default()
        });
        let mut driver = Self {
            device: Device::with_shared_memory(settings.shared_memory),
            settings,
            allocations: HashMap::new(),
            host: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            events: HashMap::new(),
            handles: 0,
            record: None,
            fault: (!known).then_some(CUresult::CUDA_ERROR_INVALID_VALUE),
        };
        driver.open_record();
        driver
    }

    fn open_record(&mut self) {
        let Some(path) = &self.settings.record else {
            return;
        };
        let file = File::options().create(true).append(true).open(path);
        match file {
            Ok(file) => self.record = Some(file),
            Err(error) => {
                explain(&path.display().to_string(), error);
                self.fault = Some(CUresult::CUDA_ERROR_FILE_NOT_FOUND);
            }
        }
    }

    /// Keeps a launch, if launches are kept. Lines of several processes do not mix.
    pub(crate) fn record(&mut self, launched: impl FnOnce() -> Launched) -> Status {
        let Some(file) = &mut self.record else {
            return Ok(());
        };
        let line = format!("{}\n", launched());
        file.write_all(line.as_bytes())
            .map_err(|_| CUresult::CUDA_ERROR_OPERATING_SYSTEM)
    }

    pub(crate) fn function(&mut self, function: CUfunction) -> Result<&mut Function, CUresult> {
        let found = self.functions.get_mut(&function.addr());
        found.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    }

    /// A handle that no other has.
    pub(crate) fn handle(&mut self) -> usize {
        self.handles += 1;
        self.handles
    }

    /// Notes the fault of a kernel.
    pub(crate) fn fault(&mut self, code: CUresult) -> CUresult {
        self.fault = Some(code);
        code
    }
}

/// Does what a call asks for, unless a kernel has failed before.
pub(crate) fn call(work: impl FnOnce(&mut Driver) -> Status) -> CUresult {
    static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

    let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let driver = driver.get_or_insert_with(Driver::start);
    match driver.fault.map_or_else(|| work(driver), Err) {
        Ok(()) => CUresult::CUDA_SUCCESS,
        Err(code) => code,
    }
}

/// Says on standard error what a code cannot.
pub(crate) fn explain(what: &str, why: impl std::fmt::Display) {
    eprintln!("simulated CUDA driver: {what}: {why}");
}

/// The code itself: `cuda.h` says what it means.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(_code: c_uint, text: *mut *const c_char) -> CUresult {
    let meaning = c"see the line about it on standard error, and the code in cuda.h";
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    match unsafe { put(text, meaning.as_ptr()) } {
        Ok(()) => CUresult::CUDA_SUCCESS,
        Err(code) => code,
    }
}
