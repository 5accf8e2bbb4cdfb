//! Refusals of single tensors.

use cubecl::prelude::Client;

use super::inputs::Inputs;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor, row_major};

/// Refuses a tensor that is not of the expected shape.
pub(crate) fn check_shape(tensor: &'static str, value: &Tensor, expected: &[usize]) -> Result<()> {
    let shape = value.shape();
    if shape.len() != expected.len() {
        let names = [
            "[]",
            "[d0]",
            "[d0, d1]",
            "[B, Nq, H]",
            "[B, N, H, d]",
            "[B, N, H, 2, d]",
        ];
        return Err(Error::Rank {
            tensor,
            got: shape.len(),
            expected: names[expected.len().min(5)],
        });
    }
    let names: &[&'static str] = match expected.len() {
        1 => &["dim"],
        3 => &["batch", "seq", "head"],
        4 => &["batch", "seq", "head", "dim"],
        _ => &["batch", "seq", "head", "pair", "dim"],
    };
    for (i, (&got, &expected)) in shape.iter().zip(expected).enumerate() {
        if got != expected {
            let (axis, shape) = (names[i], shape.to_vec());
            return Err(Error::Size {
                tensor,
                axis,
                got,
                expected,
                shape,
            });
        }
    }
    value.check_bounds(tensor)
}

/// Refuses a storage type other than `expected`.
pub(crate) fn check_type(tensor: &'static str, value: &Tensor, expected: DType) -> Result<()> {
    let got = value.dtype();
    if got == expected {
        Ok(())
    } else {
        Err(Error::TypeMismatch {
            tensor,
            got,
            expected,
        })
    }
}

/// Refuses a tensor of another device.
pub(crate) fn check_device(client: &Client, tensors: &[(&'static str, &Tensor)]) -> Result<()> {
    for &(tensor, value) in tensors {
        if value.handle().service != client.service_id() {
            return Err(Error::OtherDevice { tensor });
        }
    }
    Ok(())
}

pub(crate) fn check_not_empty(tensor: &'static str, value: &Tensor) -> Result<()> {
    let shape = value.shape();
    let names: &[&'static str] = match shape.len() {
        5 => &["batch", "seq", "head", "pair", "dim"],
        _ => &["batch", "seq", "head", "dim"],
    };
    match shape.iter().position(|n| *n == 0) {
        Some(i) => Err(Error::Empty {
            tensor,
            axis: names[i],
            shape: shape.to_vec(),
        }),
        None => Ok(()),
    }
}

pub(crate) fn check_last_axis(tensor: &'static str, value: &Tensor) -> Result<()> {
    let strides = value.strides();
    match strides.last() {
        Some(&stride) if stride != 1 => Err(Error::NotContiguous {
            tensor,
            stride,
            strides: strides.to_vec(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a tensor that is not row-major from the start of its buffer.
pub(crate) fn check_row_major(tensor: &'static str, value: &Tensor) -> Result<()> {
    if value.offset() == 0 && value.strides() == row_major(value.shape()) {
        return Ok(());
    }
    let (offset, strides) = (value.offset(), value.strides().to_vec());
    Err(Error::NotRowMajor {
        tensor,
        offset,
        strides,
    })
}

pub(crate) fn check_head_dim(tensor: &'static str, got: usize) -> Result<()> {
    if got.is_multiple_of(8) && got <= 256 {
        Ok(())
    } else {
        Err(Error::HeadDim { tensor, got })
    }
}

/// Refuses inputs of another device.
pub(super) fn check_inputs_device(client: &Client, inputs: &Inputs) -> Result<()> {
    let Inputs {
        query,
        key,
        value,
        lambda,
        gamma,
    } = inputs;
    check_device(client, &[("query", query), ("key", key), ("value", value)])?;
    let optional = [("lambda", lambda), ("gamma", gamma)];
    let given: Vec<_> = optional
        .iter()
        .filter_map(|(n, t)| Some((*n, t.as_ref()?)))
        .collect();
    check_device(client, &given)
}

/// Checks a tensor that is written.
pub(super) fn writable(
    client: &Client,
    name: &'static str,
    tensor: &Tensor,
    dtype: DType,
    shape: &[usize],
) -> Result<()> {
    check_shape(name, tensor, shape)?;
    check_type(name, tensor, dtype)?;
    check_last_axis(name, tensor)?;
    tensor.check_writable(name)?;
    check_device(client, &[(name, tensor)])
}
