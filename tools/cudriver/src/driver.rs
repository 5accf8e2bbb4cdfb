//! The state behind the functions, and what they return.

use std::collections::HashMap;
use std::ffi::{c_char, c_uint};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cudarc::driver::sys::CUresult;
use ptxsim::Device;

use crate::device::put;
use crate::module::{Function, Loaded};

/// Why a call fails: the code of `cuda.h`.
pub(crate) type Status = Result<(), CUresult>;

/// Everything that a process has on the device. Handles are numbers from 1, given out once.
#[derive(Default)]
pub(crate) struct Driver {
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
    /// What a kernel did: from then on every call fails.
    fault: Option<CUresult>,
}

impl Driver {
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
    let driver = driver.get_or_insert_default();
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
