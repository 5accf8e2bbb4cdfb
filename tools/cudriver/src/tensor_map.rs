//! Tensor maps.

use std::ffi::{c_uint, c_void};
use std::slice;

use cudarc::driver::sys::{
    CUresult, CUtensorMap, CUtensorMapDataType as DataType,
    CUtensorMapFloatOOBfill as OutOfBoundsFill, CUtensorMapInterleave as Interleave,
    CUtensorMapSwizzle as CudaSwizzle,
};
use ptxsim::{Swizzle, TensorMap, Ty};

use crate::driver::{call, explain};
use crate::raw::put;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const UNSUPPORTED: CUresult = CUresult::CUDA_ERROR_NOT_SUPPORTED;

/// The most dimensions a tensor map has.
const MOST: u32 = 5;

/// Choices come as numbers: not all that a caller may pass are among those of this version.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuTensorMapEncodeTiled(
    map: *mut CUtensorMap,
    data_type: c_uint,
    rank: u32,
    address: *mut c_void,
    dims: *const u64,
    strides: *const u64,
    box_dims: *const u32,
    element_strides: *const u32,
    interleave: c_uint,
    swizzle: c_uint,
    _l2_promotion: c_uint,
    out_of_bounds: c_uint,
) -> CUresult {
    let pointers = [
        dims.is_null(),
        box_dims.is_null(),
        element_strides.is_null(),
    ];
    if !(1..=MOST).contains(&rank) || pointers.contains(&true) || strides.is_null() && rank > 1 {
        return INVALID;
    }
    let rank = rank as usize;
    call(|driver| {
        // SAFETY: the caller's arrays, one element for each dimension; of strides one fewer.
        let encoded = unsafe {
            if slice::from_raw_parts(element_strides, rank) != vec![1; rank] {
                return Err(UNSUPPORTED);
            }
            TensorMap {
                ty: element(data_type)?,
                base: address.addr() as u64,
                dims: slice::from_raw_parts(dims, rank).to_vec(),
                strides: (1..rank).map(|i| strides.add(i - 1).read()).collect(),
                box_dims: slice::from_raw_parts(box_dims, rank).to_vec(),
                swizzle: pattern(swizzle)?,
            }
        };
        let plain = interleave == Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE as c_uint
            && out_of_bounds == OutOfBoundsFill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE as c_uint;
        if !plain {
            return Err(UNSUPPORTED);
        }
        let id = driver.device.tensor_map(encoded).map_err(|error| {
            explain("cuTensorMapEncodeTiled", error);
            INVALID
        })?;
        let mut encoded = CUtensorMap { opaque: [0; 16] };
        encoded.opaque[..2].copy_from_slice(&id.words());
        // SAFETY: the caller's pointer, as `cuda.h` asks for.
        unsafe { put(map, encoded) }
    })
}

fn element(data_type: c_uint) -> Result<Ty, CUresult> {
    const TYPES: [(c_uint, Ty); 3] = [
        (DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16 as c_uint, Ty::F16),
        (
            DataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 as c_uint,
            Ty::BF16,
        ),
        (DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32 as c_uint, Ty::F32),
    ];
    meaning(&TYPES, data_type)
}

fn pattern(swizzle: c_uint) -> Result<Swizzle, CUresult> {
    const PATTERNS: [(c_uint, Swizzle); 4] = [
        (
            CudaSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE as c_uint,
            Swizzle::None,
        ),
        (
            CudaSwizzle::CU_TENSOR_MAP_SWIZZLE_32B as c_uint,
            Swizzle::B32,
        ),
        (
            CudaSwizzle::CU_TENSOR_MAP_SWIZZLE_64B as c_uint,
            Swizzle::B64,
        ),
        (
            CudaSwizzle::CU_TENSOR_MAP_SWIZZLE_128B as c_uint,
            Swizzle::B128,
        ),
    ];
    meaning(&PATTERNS, swizzle)
}

fn meaning<T: Copy>(known: &[(c_uint, T)], number: c_uint) -> Result<T, CUresult> {
    let found = known.iter().find(|(known, _)| *known == number);
    found.map(|(_, meaning)| *meaning).ok_or(UNSUPPORTED)
}
