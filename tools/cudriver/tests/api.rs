//! The library as a program finds it: loaded by its file, called by the names of `cuda.h`.
#![cfg(target_os = "linux")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use libloading::Library;

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const NO_BINARY_FOR_GPU: c_int = 209;
const INVALID_PTX: c_int = 218;
const INVALID_HANDLE: c_int = 400;
const NOT_FOUND: c_int = 500;
const LAUNCH_FAILED: c_int = 719;

type Handle = *mut c_void;
type Copy = unsafe extern "C" fn(u64, *const c_void, usize, Handle) -> c_int;
type Launch = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

/// Adds one to each of the first numbers of a buffer, as many as there are threads.
const PTX: &CStr = c"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry increment(.param .u64 numbers)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [numbers];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r2, [%rd3];
    add.s32 %r2, %r2, 1;
    st.global.u32 [%rd3], %r2;
    ret;
}
";

struct Driver(Library);

impl Driver {
    fn load() -> Self {
        let file = std::env::current_exe().unwrap();
        let file = file.with_file_name("libcudriver.so");
        // SAFETY: loading it runs nothing.
        Self(unsafe { Library::new(file) }.unwrap())
    }

    /// A function, whose type must be that of `cuda.h`.
    fn get<F: std::marker::Copy>(&self, name: &str) -> F {
        // SAFETY: each caller names the type of the function.
        *unsafe { self.0.get::<F>(name.as_bytes()) }.unwrap()
    }

    fn kernel(&self, text: &CStr, name: &CStr) -> Result<Handle, c_int> {
        let load: unsafe extern "C" fn(*mut Handle, *const c_char) -> c_int =
            self.get("cuModuleLoadData");
        let find: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int =
            self.get("cuModuleGetFunction");
        let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: results go to locals, texts end with a zero.
        unsafe {
            check(load(&mut module, text.as_ptr()))?;
            check(find(&mut function, module, name.as_ptr()))?;
        }
        Ok(function)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, c_int> {
        let allocate: unsafe extern "C" fn(*mut u64, usize) -> c_int = self.get("cuMemAlloc_v2");
        let mut address = 0;
        // SAFETY: the result goes to a local.
        check(unsafe { allocate(&mut address, bytes) })?;
        Ok(address)
    }

    fn store(&self, address: u64, numbers: &[u32]) -> Result<(), c_int> {
        let copy: Copy = self.get("cuMemcpyHtoDAsync_v2");
        let bytes = size_of_val(numbers);
        // SAFETY: as many bytes as the slice has.
        check(unsafe { copy(address, numbers.as_ptr().cast(), bytes, ptr::null_mut()) })
    }

    fn load_numbers(&self, address: u64, len: usize) -> Result<Vec<u32>, c_int> {
        let copy: unsafe extern "C" fn(Handle, u64, usize, Handle) -> c_int =
            self.get("cuMemcpyDtoHAsync_v2");
        let mut numbers = vec![0_u32; len];
        let to = numbers.as_mut_ptr().cast();
        // SAFETY: as many bytes as the vector has.
        check(unsafe { copy(to, address, 4 * len, ptr::null_mut()) })?;
        Ok(numbers)
    }

    fn launch(
        &self,
        function: Handle,
        threads: u32,
        shared: u32,
        address: u64,
    ) -> Result<(), c_int> {
        let launch: Launch = self.get("cuLaunchKernel");
        let (mut address, none) = (address, ptr::null_mut());
        let mut arguments = [ptr::from_mut(&mut address).cast()];
        let arguments = arguments.as_mut_ptr();
        // SAFETY: one argument, as long as the kernel's parameter.
        check(unsafe {
            launch(
                function,
                1,
                1,
                1,
                threads,
                1,
                1,
                shared,
                none,
                arguments,
                ptr::null_mut(),
            )
        })
    }

    fn allow_shared(&self, function: Handle, bytes: c_int) -> Result<(), c_int> {
        const MAX_DYNAMIC_SHARED: c_uint = 8;
        let set: unsafe extern "C" fn(Handle, c_uint, c_int) -> c_int =
            self.get("cuFuncSetAttribute");
        // SAFETY: numbers only.
        check(unsafe { set(function, MAX_DYNAMIC_SHARED, bytes) })
    }
}

fn check(status: c_int) -> Result<(), c_int> {
    if status == SUCCESS {
        Ok(())
    } else {
        Err(status)
    }
}

/// One after the other, and what ends the context last: a process has one device.
#[test]
fn kernels_run_and_fail_as_on_a_gpu() {
    let driver = Driver::load();
    let function = driver.kernel(PTX, c"increment").unwrap();
    let numbers = driver.allocate(16).unwrap();
    driver.store(numbers, &[1, 2, 3, u32::MAX]).unwrap();
    driver.launch(function, 4, 0, numbers).unwrap();
    assert_eq!(driver.load_numbers(numbers, 4), Ok(vec![2, 3, 4, 0]));

    let missing = driver.kernel(PTX, c"decrement");
    assert_eq!(missing, Err(NOT_FOUND));
    let unknown = driver.kernel(c".version 8.0\n.target sm_90a\nnonsense", c"increment");
    assert_eq!(unknown, Err(INVALID_PTX));
    let later = driver.kernel(c".version 8.7\n.target sm_120a\n", c"increment");
    assert_eq!(later, Err(NO_BINARY_FOR_GPU));
    assert_eq!(
        driver.launch(ptr::null_mut(), 1, 0, numbers),
        Err(INVALID_HANDLE)
    );
    assert_eq!(driver.allocate(0), Err(INVALID_VALUE));
    assert_eq!(driver.load_numbers(numbers, 5), Err(INVALID_VALUE));

    assert_eq!(
        driver.launch(function, 1, 64 << 10, numbers),
        Err(INVALID_VALUE)
    );
    assert_eq!(driver.allow_shared(function, 228 << 10), Err(INVALID_VALUE));
    driver.allow_shared(function, 64 << 10).unwrap();
    driver.launch(function, 1, 64 << 10, numbers).unwrap();
    assert_eq!(driver.load_numbers(numbers, 1), Ok(vec![3]));

    // The fifth thread is past the end, and that is the end of everything.
    assert_eq!(driver.launch(function, 5, 0, numbers), Err(LAUNCH_FAILED));
    assert_eq!(driver.load_numbers(numbers, 1), Err(LAUNCH_FAILED));
    assert_eq!(driver.launch(function, 1, 0, numbers), Err(LAUNCH_FAILED));
}
