//! Launches.

use std::ffi::{c_uint, c_void};
use std::slice;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUresult, CUstream};
use ptxsim::{Arg, Error, Launch};

use crate::device::current;
use crate::driver::{Driver, Function, call, explain};
use crate::raw::Status;
use crate::settings::Launched;

/// Runs the kernel to its end, if kernels run.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> CUresult {
    call(|driver| {
        let launch = Launch {
            shared: shared as usize,
            ..Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z])
        };
        let found = driver.function(function)?;
        if launch.shared > found.shared {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let (module, name) = (Arc::clone(&found.module), found.name.clone());
        driver.record(|| launched(&name, &launch, stream))?;
        if !driver.settings.run {
            return Ok(());
        }
        // SAFETY: the caller's pointers to as many arguments as the kernel has parameters.
        let arguments = unsafe { arguments(driver.function(function)?, parameters) }?;
        let result = driver.device.launch(&module, &name, &launch, &arguments);
        result
            .map(drop)
            .or_else(|error| driver.failed(&name, &error))
    })
}

fn launched(kernel: &str, launch: &Launch, stream: CUstream) -> Launched {
    Launched {
        device: current(),
        stream: stream.addr(),
        kernel: kernel.into(),
        grid: launch.grid,
        block: launch.block,
        shared: launch.shared,
    }
}

/// Copies of the arguments, as long as the kernel's parameters.
///
/// # Safety
/// `parameters` has a pointer to each, or is null where there is none.
unsafe fn arguments(
    function: &Function,
    parameters: *mut *mut c_void,
) -> Result<Vec<Arg>, CUresult> {
    let sizes: Vec<usize> = function.module.parameters(&function.name).collect();
    if sizes.is_empty() {
        return Ok(vec![]);
    }
    if parameters.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller vouches for as many pointers, each to as many bytes.
    let argument = |(i, bytes): (usize, &usize)| unsafe {
        let argument = parameters.add(i).read().cast::<u8>();
        Arg::Bytes(slice::from_raw_parts(argument, *bytes).to_vec())
    };
    Ok(sizes.iter().enumerate().map(argument).collect())
}

impl Driver {
    /// A launch that does not fit its kernel is refused; a fault of the program is the end of the context.
    fn failed(&mut self, kernel: &str, error: &Error) -> Status {
        explain(kernel, error);
        match error.line {
            0 => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
            _ => Err(self.fault(CUresult::CUDA_ERROR_LAUNCH_FAILED)),
        }
    }
}
