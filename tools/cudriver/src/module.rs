//! Modules and their functions.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUfunction_attribute as Attribute, CUmodule, CUresult};
use ptxsim::Module;

use crate::driver::{Function, call, explain};
use crate::raw::put;

/// Dynamic shared memory that a function has without asking.
const SHARED: usize = 48 << 10;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    call(|driver| {
        if image.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's PTX, which a zero ends; machine code, which has no such end, is not what CubeCL loads.
        let text = unsafe { CStr::from_ptr(image.cast()) }.to_str();
        let text = text.map_err(|_| CUresult::CUDA_ERROR_INVALID_IMAGE)?;
        let loaded = Module::load(text).map_err(|error| {
            explain("PTX that the simulator does not know", error);
            CUresult::CUDA_ERROR_INVALID_PTX
        })?;
        if !loaded.runs_on(driver.settings.compute_capability) {
            return Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
        }
        let new = driver.handle();
        driver.modules.insert(new, Arc::new(loaded));
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(module, ptr::without_provenance_mut(new)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: CUmodule) -> CUresult {
    let unknown = CUresult::CUDA_ERROR_INVALID_HANDLE;
    call(|driver| {
        driver
            .modules
            .remove(&module.addr())
            .map(drop)
            .ok_or(unknown)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    call(|driver| {
        let loaded = driver.modules.get(&module.addr());
        let loaded = loaded.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?.clone();
        // SAFETY: the caller's text, which a zero ends.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        if !loaded.kernels().any(|kernel| kernel == name) {
            return Err(CUresult::CUDA_ERROR_NOT_FOUND);
        }
        let new = driver.handle();
        let found = Function {
            module: loaded,
            name,
            shared: SHARED,
        };
        driver.functions.insert(new, found);
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(function, ptr::without_provenance_mut(new)) }
    })
}

/// `attribute` is a number here: not all that a caller may pass are among those of this version.
#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: c_uint,
    value: c_int,
) -> CUresult {
    let dynamic_shared = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_uint;
    call(|driver| {
        let most = driver.settings.shared_memory;
        let function = driver.function(function)?;
        if attribute != dynamic_shared {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        match usize::try_from(value) {
            Ok(bytes) if bytes <= most => function.shared = bytes.max(SHARED),
            _ => return Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
        Ok(())
    })
}
