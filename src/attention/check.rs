//! Refusals of single tensors.

use cubecl::prelude::Client;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::Operand;
use crate::tensor::Tensor;

/// Refuses a tensor that is not of the expected shape.
pub(crate) fn check_shape(operand: Operand, value: &Tensor, expected: &[usize]) -> Result<()> {
    let (tensor, shape) = (operand.name(), value.shape());
    if shape.len() != expected.len() {
        return Err(Error::Rank {
            tensor,
            got: shape.len(),
            expected: operand.expected(expected.len()),
        });
    }
    let names = operand.axes(shape.len());
    for ((&axis, &got), &expected) in names.iter().zip(shape).zip(expected) {
        check_size(operand, value, axis, got, expected)?;
    }
    value.check_bounds(tensor)
}

/// Refuses an axis of another size than expected.
pub(crate) fn check_size(
    operand: Operand,
    value: &Tensor,
    axis: &'static str,
    got: usize,
    expected: usize,
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Size {
        tensor: operand.name(),
        axis,
        got,
        expected,
        shape: value.shape().to_vec(),
    })
}

/// Refuses a storage type other than `expected`.
pub(crate) fn check_type(operand: Operand, value: &Tensor, expected: DType) -> Result<()> {
    let got = value.dtype();
    if got == expected {
        return Ok(());
    }
    Err(Error::TypeMismatch {
        tensor: operand.name(),
        got,
        expected,
    })
}

/// Refuses a tensor of another device.
pub(crate) fn check_device(operand: Operand, client: &Client, value: &Tensor) -> Result<()> {
    if value.handle().service == client.service_id() {
        return Ok(());
    }
    Err(Error::OtherDevice {
        tensor: operand.name(),
    })
}

pub(crate) fn check_not_empty(operand: Operand, value: &Tensor) -> Result<()> {
    let shape = value.shape();
    match shape.iter().position(|n| *n == 0) {
        Some(i) => Err(Error::Empty {
            tensor: operand.name(),
            axis: operand.axes(shape.len())[i],
            shape: shape.to_vec(),
        }),
        None => Ok(()),
    }
}

pub(crate) fn check_last_axis(operand: Operand, value: &Tensor) -> Result<()> {
    let strides = value.strides();
    match strides.last() {
        Some(&stride) if stride != 1 => Err(Error::NotContiguous {
            tensor: operand.name(),
            stride,
            strides: strides.to_vec(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a tensor that is not row-major from the start of its buffer.
pub(crate) fn check_row_major(operand: Operand, value: &Tensor) -> Result<()> {
    if value.layout().is_row_major() {
        return Ok(());
    }
    Err(Error::NotRowMajor {
        tensor: operand.name(),
        offset: value.offset(),
        strides: value.strides().to_vec(),
    })
}

/// Refuses a tensor that cannot be read row by row.
pub(crate) fn check_rows(operand: Operand, value: &Tensor) -> Result<()> {
    check_not_empty(operand, value)?;
    value.check_bounds(operand.name())?;
    check_last_axis(operand, value)
}

pub(crate) fn check_head_dim(operand: Operand, got: usize) -> Result<()> {
    if got.is_multiple_of(8) && got <= 256 {
        return Ok(());
    }
    let tensor = operand.name();
    Err(Error::HeadDim { tensor, got })
}

/// Refuses a tensor that cannot be written row by row.
pub(super) fn check_writable(
    operand: Operand,
    tensor: &Tensor,
    dtype: DType,
    shape: &[usize],
) -> Result<()> {
    check_shape(operand, tensor, shape)?;
    check_type(operand, tensor, dtype)?;
    check_last_axis(operand, tensor)?;
    tensor.check_writable(operand.name())
}
