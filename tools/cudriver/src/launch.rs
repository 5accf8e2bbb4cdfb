//! Launches.

use std::ffi::{c_uint, c_void};
use std::slice;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUresult, CUstream};
use ptxsim::{Arg, Error, Launch};

use crate::driver::{Driver, Status, call, explain};
use crate::module::Function;

/// Runs the kernel to its end.
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
    _stream: CUstream,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> CUresult {
    call(|driver| {
        let launch = Launch {
            shared: shared as usize,
            ..Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z])
        };
        let function = driver.function(function)?;
        if launch.shared > function.shared {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's pointers to as many arguments as the kernel has parameters.
        let arguments = unsafe { arguments(function, parameters) }?;
        let (module, name) = (Arc::clone(&function.module), function.name.clone());
        let result = driver.device.launch(&module, &name, &launch, &arguments);
        result
            .map(drop)
            .or_else(|error| driver.failed(&name, &error))
    })
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
