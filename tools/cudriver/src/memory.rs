//! Memory of the device and of the host, and copies between them.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::c_void;
use std::slice;

use cudarc::driver::sys::{CUDA_MEMCPY2D, CUdeviceptr, CUmemorytype, CUresult, CUstream};
use ptxsim::Buffer;

use crate::driver::{Driver, call};
use crate::raw::{Status, put};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

/// As page-locked memory is aligned.
const PAGE: usize = 4096;

impl Driver {
    fn allocate(&mut self, bytes: usize) -> Result<u64, CUresult> {
        if bytes == 0 {
            return Err(INVALID);
        }
        let buffer = self.device.alloc(bytes);
        self.allocations.insert(buffer.address, bytes);
        Ok(buffer.address)
    }

    fn free(&mut self, address: u64) -> Status {
        if address == 0 {
            return Ok(());
        }
        let bytes = self.allocations.remove(&address).ok_or(INVALID)?;
        self.device.free(Buffer { address, bytes });
        Ok(())
    }

    fn load(&self, address: u64, bytes: usize) -> Result<Vec<u8>, CUresult> {
        let buffer = Buffer { address, bytes };
        self.device.download(buffer).map_err(|_| INVALID)
    }

    fn store(&mut self, address: u64, bytes: &[u8]) -> Status {
        let buffer = Buffer {
            address,
            bytes: bytes.len(),
        };
        self.device.write(buffer, bytes).map_err(|_| INVALID)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    call(|driver| {
        driver
            .allocate(bytes)
            .and_then(|new| unsafe { put(address, new) })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(
    address: *mut CUdeviceptr,
    bytes: usize,
    _stream: CUstream,
) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    unsafe { cuMemAlloc_v2(address, bytes) }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> CUresult {
    call(|driver| driver.free(address))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: CUdeviceptr, _stream: CUstream) -> CUresult {
    call(|driver| driver.free(address))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocHost_v2(address: *mut *mut c_void, bytes: usize) -> CUresult {
    call(|driver| {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).map_err(|_| INVALID)?;
        // SAFETY: the layout has a size.
        let new = unsafe { alloc(layout) };
        if new.is_null() {
            return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        driver.host.insert(new.addr(), layout.size());
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(address, new.cast()) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(address: *mut c_void) -> CUresult {
    call(|driver| {
        let bytes = driver.host.remove(&address.addr()).ok_or(INVALID)?;
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| INVALID)?;
        // SAFETY: it was allocated with this layout, and is not freed twice.
        unsafe { dealloc(address.cast(), layout) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    _stream: CUstream,
) -> CUresult {
    // SAFETY: the caller has `bytes` bytes there.
    call(|driver| driver.store(to, unsafe { host(from, bytes) }?))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    _stream: CUstream,
) -> CUresult {
    call(|driver| {
        let contents = driver.load(from, bytes)?;
        // SAFETY: the caller has room for `bytes` bytes there.
        unsafe { store_host(to, &contents) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    _stream: CUstream,
) -> CUresult {
    call(|driver| {
        driver
            .load(from, bytes)
            .and_then(|contents| driver.store(to, &contents))
    })
}

/// Row by row, between the host and the device.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpy2DAsync_v2(copy: *const CUDA_MEMCPY2D, _stream: CUstream) -> CUresult {
    // SAFETY: the caller's descriptor, null or valid.
    let Some(copy) = (unsafe { copy.as_ref() }) else {
        return INVALID;
    };
    call(|driver| {
        for row in 0..copy.Height {
            let contents = source(driver, copy, row)?;
            target(driver, copy, row, &contents)?;
        }
        Ok(())
    })
}

fn source(driver: &Driver, copy: &CUDA_MEMCPY2D, row: usize) -> Result<Vec<u8>, CUresult> {
    let offset = (copy.srcY + row) * copy.srcPitch + copy.srcXInBytes;
    match copy.srcMemoryType {
        CUmemorytype::CU_MEMORYTYPE_DEVICE => {
            driver.load(copy.srcDevice + offset as u64, copy.WidthInBytes)
        }
        CUmemorytype::CU_MEMORYTYPE_HOST => {
            // SAFETY: the caller has all rows of the descriptor there.
            let row = unsafe { host(copy.srcHost.wrapping_byte_add(offset), copy.WidthInBytes) };
            Ok(row?.to_vec())
        }
        _ => Err(CUresult::CUDA_ERROR_NOT_SUPPORTED),
    }
}

fn target(driver: &mut Driver, copy: &CUDA_MEMCPY2D, row: usize, contents: &[u8]) -> Status {
    let offset = (copy.dstY + row) * copy.dstPitch + copy.dstXInBytes;
    match copy.dstMemoryType {
        CUmemorytype::CU_MEMORYTYPE_DEVICE => {
            driver.store(copy.dstDevice + offset as u64, contents)
        }
        // SAFETY: the caller has room for all rows of the descriptor there.
        CUmemorytype::CU_MEMORYTYPE_HOST => unsafe {
            store_host(copy.dstHost.wrapping_byte_add(offset), contents)
        },
        _ => Err(CUresult::CUDA_ERROR_NOT_SUPPORTED),
    }
}

/// # Safety
/// The pointer is null or valid for reads of `bytes` bytes, which nobody writes in the meantime.
unsafe fn host<'a>(from: *const c_void, bytes: usize) -> Result<&'a [u8], CUresult> {
    match (bytes, from.is_null()) {
        (0, _) => Ok(&[]),
        (_, true) => Err(INVALID),
        // SAFETY: the caller vouches for it.
        _ => Ok(unsafe { slice::from_raw_parts(from.cast(), bytes) }),
    }
}

/// # Safety
/// The pointer is null or valid for writes of as many bytes.
unsafe fn store_host(to: *mut c_void, contents: &[u8]) -> Status {
    if to.is_null() && !contents.is_empty() {
        return Err(INVALID);
    }
    // SAFETY: the caller vouches for it, and the contents are a copy of their own.
    unsafe { to.cast::<u8>().copy_from(contents.as_ptr(), contents.len()) };
    Ok(())
}
