//! The device and its context.

use std::ffi::{c_char, c_int, c_uint};

use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute as Attribute, CUresult};

use crate::driver::{Status, call};

const NAME: &str = "PTX simulator (sm_90a)";
const PCI_BUS: &str = "0000:00:00.0";

/// CUDA 12.9, as the headers and the compiler that CI installs.
const VERSION: c_int = 12090;

/// Small beside an H100's 80 GB, so that pools do not take more than an ordinary machine has.
const MEMORY: usize = 8 << 30;

/// Of compute capability 9.0.
const ATTRIBUTES: &[(Attribute, c_int)] = &[
    (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9),
    (Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0),
    (Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
    (Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132),
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
    (
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
        227 << 10,
    ),
    (Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
];

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
    call(|_| unsafe { put(count, 1) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    call(|_| {
        known(ordinal)?;
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(device, ordinal) }
    })
}

/// `attribute` is a number here: not all that a caller may pass are among those of this version.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: c_uint,
    device: CUdevice,
) -> CUresult {
    call(|_| {
        known(device)?;
        let mut known = ATTRIBUTES.iter();
        let found = known.find(|(known, _)| *known as c_uint == attribute);
        // Every other one is a feature that the simulator does not have.
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(value, found.map_or(0, |(_, value)| *value)) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice) -> CUresult {
    // SAFETY: the caller's buffer of `len` bytes.
    call(|_| known(device).and_then(|()| unsafe { put_text(name, len, NAME) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(
    id: *mut c_char,
    len: c_int,
    device: CUdevice,
) -> CUresult {
    // SAFETY: the caller's buffer of `len` bytes.
    call(|_| known(device).and_then(|()| unsafe { put_text(id, len, PCI_BUS) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    call(|_| known(device).and_then(|()| unsafe { put(bytes, MEMORY) }))
}

/// The one context there is.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut CUcontext,
    device: CUdevice,
) -> CUresult {
    let only = std::ptr::without_provenance_mut(1);
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    call(|_| known(device).and_then(|()| unsafe { put(context, only) }))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(_context: CUcontext) -> CUresult {
    call(|_| Ok(()))
}

fn known(device: CUdevice) -> Status {
    match device {
        0 => Ok(()),
        _ => Err(CUresult::CUDA_ERROR_INVALID_DEVICE),
    }
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// The pointer is null or valid for writes.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Status {
    if to.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: not null, so the caller vouches for it.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes text and the zero that ends it, cut to `len` bytes.
///
/// # Safety
/// The pointer is null or valid for writes of `len` bytes.
unsafe fn put_text(to: *mut c_char, len: c_int, text: &str) -> Status {
    let Some(most) = usize::try_from(len).ok().and_then(|len| len.checked_sub(1)) else {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    };
    if to.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let bytes = text.bytes().take(most).chain([0]);
    for (i, byte) in bytes.enumerate() {
        // SAFETY: at most `len` bytes, for which the caller vouches.
        unsafe { to.add(i).write(byte as c_char) };
    }
    Ok(())
}
