//! Streams and events. There is nothing to wait for: what a call asks for is done when it returns.

use std::ffi::{c_int, c_uint};
use std::ptr;
use std::time::Instant;

use cudarc::driver::sys::{CUevent, CUresult, CUstream};

use crate::driver::{Driver, call};
use crate::raw::put;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_HANDLE;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut CUstream, _flags: c_uint) -> CUresult {
    call(|driver| {
        let new = ptr::without_provenance_mut(driver.handle());
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(stream, new) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    flags: c_uint,
    _priority: c_int,
) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    unsafe { cuStreamCreate(stream, flags) }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(_stream: CUstream) -> CUresult {
    call(|_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(_stream: CUstream) -> CUresult {
    call(|_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(_stream: CUstream, event: CUevent, _flags: c_uint) -> CUresult {
    call(|driver| driver.event(event).map(drop))
}

impl Driver {
    fn event(&mut self, event: CUevent) -> Result<&mut Option<Instant>, CUresult> {
        self.events.get_mut(&event.addr()).ok_or(INVALID)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut CUevent, _flags: c_uint) -> CUresult {
    call(|driver| {
        let new = driver.handle();
        driver.events.insert(new, None);
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(event, ptr::without_provenance_mut(new)) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    call(|driver| driver.events.remove(&event.addr()).map(drop).ok_or(INVALID))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: CUevent, _stream: CUstream) -> CUresult {
    call(|driver| {
        *driver.event(event)? = Some(Instant::now());
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: CUevent) -> CUresult {
    call(|driver| driver.event(event).map(drop))
}

/// Milliseconds of this machine.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    call(|driver| {
        let elapsed = elapsed(driver, start, end)?;
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(milliseconds, elapsed) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    // SAFETY: the caller's pointer, as `cuda.h` asks for.
    unsafe { cuEventElapsedTime_v2(milliseconds, start, end) }
}

fn elapsed(driver: &mut Driver, start: CUevent, end: CUevent) -> Result<f32, CUresult> {
    let [start, end] = [*driver.event(start)?, *driver.event(end)?];
    let (start, end) = start.zip(end).ok_or(INVALID)?;
    let forward = end.saturating_duration_since(start).as_secs_f32();
    let back = start.saturating_duration_since(end).as_secs_f32();
    Ok((forward - back) * 1e3)
}
