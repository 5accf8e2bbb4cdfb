//! Results and how they reach the caller.

use std::ffi::{c_char, c_int};

use cudarc::driver::sys::CUresult;

/// Why a call fails: the code of `cuda.h`.
pub(crate) type Status = Result<(), CUresult>;

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
pub(crate) unsafe fn put_text(to: *mut c_char, len: c_int, text: &str) -> Status {
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
