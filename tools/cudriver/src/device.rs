//! The devices and their contexts.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute as Attribute, CUresult};

use crate::driver::{Driver, call};
use crate::raw::{Status, put, put_text};
use crate::settings::Settings;

/// CUDA 12.9, as the headers and the compiler that CI installs.
const VERSION: c_int = 12090;

/// Small beside an H100's 80 GB, so that pools do not take more than an ordinary machine has.
const MEMORY: usize = 8 << 30;

/// What every device has.
const ATTRIBUTES: &[(Attribute, c_int)] = &[
    (Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, c_int::MAX),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535),
    (Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535),
    (
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
        48 << 10,
    ),
    (Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
];

/// What the settings say. Every attribute that neither knows is a feature that the simulator does not have.
fn attribute(settings: &Settings, attribute: c_uint) -> c_int {
    let capability = settings.compute_capability;
    let (major, minor) = (capability / 10, capability % 10);
    let chosen = [
        (
            Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            major as c_int,
        ),
        (
            Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            minor as c_int,
        ),
        (
            Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            settings.multiprocessors as c_int,
        ),
        (
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            settings.shared_memory as c_int,
        ),
    ];
    let mut known = chosen.iter().chain(ATTRIBUTES);
    let found = known.find(|(known, _)| *known as c_uint == attribute);
    found.map_or(0, |(_, value)| *value)
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> CUresult {
    call(|_| Ok(()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    unsafe { version.write(VERSION) };
    CUresult::CUDA_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    call(|driver| unsafe { put(count, driver.settings.devices as c_int) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    call(|driver| {
        known(driver, ordinal)?;
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(device, ordinal) }
    })
}

/// The attribute is a number here: not all that a caller may pass are among those of this version.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    number: c_uint,
    device: CUdevice,
) -> CUresult {
    call(|driver| {
        known(driver, device)?;
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(value, attribute(&driver.settings, number)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice) -> CUresult {
    call(|driver| {
        known(driver, device)?;
        let capability = driver.settings.compute_capability;
        let specific = if capability >= 90 { "a" } else { "" };
        let text = format!("PTX simulator (sm_{capability}{specific})");
        // SAFETY: the caller's buffer of `len` bytes.
        unsafe { put_text(name, len, &text) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(
    id: *mut c_char,
    len: c_int,
    device: CUdevice,
) -> CUresult {
    call(|driver| {
        known(driver, device)?;
        // SAFETY: the caller's buffer of `len` bytes.
        unsafe { put_text(id, len, &format!("0000:{device:02x}:00.0")) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> CUresult {
    call(|driver| {
        known(driver, device)?;
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(bytes, MEMORY) }
    })
}

thread_local! {
    /// The device whose context is current, and 0 before any is.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The device whose context is current on this thread.
pub(crate) fn current() -> u32 {
    CURRENT.get().saturating_sub(1) as u32
}

/// The one context that a device has: its number, counted from 1.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut CUcontext,
    device: CUdevice,
) -> CUresult {
    call(|driver| {
        known(driver, device)?;
        let only = ptr::without_provenance_mut(device as usize + 1);
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(context, only) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    call(|driver| {
        if context.addr() > driver.settings.devices as usize {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        CURRENT.set(context.addr());
        Ok(())
    })
}

fn known(driver: &Driver, device: CUdevice) -> Status {
    match u32::try_from(device) {
        Ok(number) if number < driver.settings.devices => Ok(()),
        _ => Err(CUresult::CUDA_ERROR_INVALID_DEVICE),
    }
}
