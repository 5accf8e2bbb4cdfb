//! The fused operation on Burn tensors: checked here, where a refusal can name the caller, then handed to Burn.

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use cubecl::prelude::Client;

use super::check::{Operands, must};
use super::cube::storage_type;
use super::ops::{AttentionOps, Maybe};
use super::plans::planned;
use crate::attention::{Options, empty_outputs, plan_forward_into};
use crate::error::Result;
use crate::plan::Bindings;

/// The client of a device of CubeCL; `None` for another.
pub(super) fn client(device: &DispatchDevice) -> Option<Client> {
    match device {
        DispatchDevice::Cube(device) => Some(device.client()),
        DispatchDevice::Autodiff(device) => client(&device.clone().inner()),
        #[allow(unreachable_patterns, reason = "a build may have no other backend")]
        _ => None,
    }
}

/// Refuses a storage type that the kernels or the device do not have. Devices without kernels are Burn's to judge.
pub(super) fn check_type(device: &Device, dtype: FloatDType) -> Result<()> {
    match client(device.as_dispatch()) {
        None => Ok(()),
        Some(client) => storage_type("attention", dtype.into())?.check(&client),
    }
}

/// The fused operation. λ and γ are computed with in `f32` whatever they are stored as.
#[track_caller]
pub(super) fn attention<const Q: usize, const K: usize, const V: usize>(
    client: &Client,
    query: Tensor<Q>,
    key: Tensor<K>,
    value: Tensor<V>,
    lambda: Option<Tensor<3>>,
    gamma: Option<Tensor<1>>,
    options: &Options,
) -> Tensor<4> {
    let [query, key, value] = [
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
    ];
    let lambda = lambda.map(|lambda| lambda.cast(DType::F32).into_dispatch());
    let gamma = gamma.map(|gamma| gamma.cast(DType::F32).into_dispatch());
    let operands = Operands {
        query: &query,
        key: &key,
        value: &value,
        lambda: lambda.as_ref(),
        gamma: gamma.as_ref(),
    };
    must(check(client, &operands, options));
    let maybe = |tensor: Option<_>| tensor.map_or(Maybe::Absent, Maybe::Given);
    let (lambda, gamma) = (maybe(lambda), maybe(gamma));
    Tensor::from_dispatch(Dispatch::flash_attention(
        query, key, value, lambda, gamma, *options,
    ))
}

/// Whatever the forward pass refuses before its launch.
fn check(client: &Client, operands: &Operands, options: &Options) -> Result<()> {
    // Tensors in name only: CubeCL allocates when memory is first used.
    let inputs = operands.inputs(storage_type, |dtype, shape| {
        crate::Tensor::empty(client, dtype, shape)
    })?;
    let (output, saved) = empty_outputs(client, &inputs, options)?;
    let tensors = Bindings::forward(&inputs, &output, saved.as_ref());
    let plan = || plan_forward_into(client, &inputs, options, &output, saved.as_ref());
    planned(client, &tensors, options, plan).map(drop)
}
