//! The operations on CubeCL tensors: Burn's buffers read and written where they lie.

use burn::tensor::{DType as BurnType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use cubecl::prelude::Client;
use cubecl::zspace::{Strides, metadata::Metadata};

use super::check::must;
use super::ops::{AttentionGradients, AttentionOps, AttentionSaved, AttentionTrainingOps, Maybe};
use super::plans::planned;
use crate::attention::{
    Forward, Gradients, Inputs, Options, Saved, empty_gradients, empty_outputs, plan_backward_into,
    plan_forward_into,
};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::Bindings;
use crate::tensor::Tensor;

impl AttentionOps for CubeBackend {
    fn flash_attention(
        query: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        lambda: Maybe<Self>,
        gamma: Maybe<Self>,
        options: Options,
    ) -> CubeTensor {
        let place = Place::of(&query);
        let inputs = inputs(query, key, value, lambda, gamma);
        let options = options.with_save_for_backward(false);
        place.heads_first(&must(forward(&place.client, &inputs, &options)).output)
    }
}

impl AttentionTrainingOps for CubeBackend {
    fn flash_attention_saved(
        query: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        lambda: Maybe<Self>,
        gamma: Maybe<Self>,
        options: Options,
    ) -> AttentionSaved<Self> {
        let place = Place::of(&query);
        let inputs = inputs(query, key, value, lambda, gamma);
        let options = options.with_save_for_backward(true);
        let result = must(forward(&place.client, &inputs, &options));
        let saved = result.saved.expect("asked for");
        AttentionSaved {
            output: place.heads_first(&result.output),
            outputs: place.tensor(&saved.outputs),
            lse: place.tensor(&saved.lse),
        }
    }

    fn flash_attention_backward(
        query: CubeTensor,
        key: CubeTensor,
        value: CubeTensor,
        lambda: Maybe<Self>,
        gamma: Maybe<Self>,
        outputs: CubeTensor,
        lse: CubeTensor,
        grad: CubeTensor,
        options: Options,
    ) -> AttentionGradients<Self> {
        let place = Place::of(&query);
        let inputs = inputs(query, key, value, lambda, gamma);
        let saved = Saved {
            outputs: view(rows(outputs)),
            lse: view(into_contiguous(lse)),
        };
        let grad = seq_first(&view(rows(grad)));
        let gradients = must(backward(&place.client, &inputs, &saved, &grad, &options));
        AttentionGradients {
            query: place.heads_first(&gradients.query),
            key: place.heads_first(&gradients.key),
            value: place.heads_first(&gradients.value),
            lambda: place.maybe(gradients.lambda.map(|lambda| swap_seq_and_head(&lambda))),
            gamma: place.maybe(gradients.gamma),
        }
    }
}

/// [`forward`](crate::forward) with a plan that is kept.
fn forward(client: &Client, inputs: &Inputs, options: &Options) -> Result<Forward> {
    let (output, saved) = empty_outputs(client, inputs, options)?;
    let tensors = Bindings::forward(inputs, &output, saved.as_ref());
    let plan = || plan_forward_into(client, inputs, options, &output, saved.as_ref());
    planned(client, &tensors, options, plan)?.run(client, &tensors)?;
    Ok(Forward { output, saved })
}

/// [`backward`](crate::backward) with a plan that is kept.
fn backward(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad: &Tensor,
    options: &Options,
) -> Result<Gradients> {
    let gradients = empty_gradients(client, inputs, options)?;
    let tensors = Bindings::backward(inputs, saved, grad, &gradients);
    let plan = || plan_backward_into(client, inputs, saved, grad, options, &gradients);
    planned(client, &tensors, options, plan)?.run(client, &tensors)?;
    Ok(gradients)
}

/// Burn's name for a storage type as this crate's.
pub(super) fn storage_type(tensor: &'static str, dtype: BurnType) -> Result<DType> {
    match dtype {
        BurnType::F32 => Ok(DType::F32),
        BurnType::F16 => Ok(DType::F16),
        BurnType::BF16 => Ok(DType::BF16),
        other => Err(Error::StorageType {
            tensor,
            got: format!("{other:?}").to_lowercase(),
        }),
    }
}

/// Burn's tensors in the axis order of this crate, `[batch, seq, head, …]`.
fn inputs(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    lambda: Maybe<CubeBackend>,
    gamma: Maybe<CubeBackend>,
) -> Inputs {
    let given = |tensor: Maybe<CubeBackend>| match tensor {
        Maybe::Absent => None,
        Maybe::Given(tensor) => Some(tensor),
    };
    Inputs {
        query: seq_first(&view(rows(query))),
        key: seq_first(&view(rows(distinct_maps(key)))),
        value: seq_first(&view(rows(value))),
        lambda: given(lambda).map(|lambda| swap_seq_and_head(&view(lambda))),
        gamma: given(gamma).map(|gamma| view(into_contiguous(gamma))),
    }
}

/// A Burn tensor as this crate's, of the same buffer.
fn view(tensor: CubeTensor) -> Tensor {
    let dtype = must(storage_type("tensor", tensor.dtype));
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    Tensor::strided(tensor.handle.clone(), dtype, 0, shape, strides)
}

/// A tensor whose last axis kernels can read: it is copied only if that is not contiguous.
fn rows(tensor: CubeTensor) -> CubeTensor {
    match tensor.meta.strides().last() {
        Some(1) => tensor,
        _ => into_contiguous(tensor),
    }
}

/// A key whose two maps were expanded from one is written out: its gradient has both.
fn distinct_maps(key: CubeTensor) -> CubeTensor {
    let (shape, strides) = (key.meta.shape(), key.meta.strides());
    let repeated = shape.len() == 5 && shape[2] == 2 && strides[2] == 0;
    if repeated { into_contiguous(key) } else { key }
}

/// `[batch, head, seq, dim]` or `[batch, head, pair, seq, dim]` with the sequence before the heads.
fn seq_first(tensor: &Tensor) -> Tensor {
    match tensor.shape().len() {
        5 => permuted(tensor, &[0, 3, 1, 2, 4]),
        4 => permuted(tensor, &[0, 2, 1, 3]),
        // The attention function names the tensor in its refusal.
        _ => tensor.clone(),
    }
}

/// λ between `[batch, head, seq]` and `[batch, seq, head]`.
fn swap_seq_and_head(lambda: &Tensor) -> Tensor {
    match lambda.shape().len() {
        3 => permuted(lambda, &[0, 2, 1]),
        _ => lambda.clone(),
    }
}

fn permuted(tensor: &Tensor, axes: &[usize]) -> Tensor {
    tensor.permute(axes).expect("a permutation of its axes")
}

/// Where results are wanted.
struct Place {
    client: Client,
    device: CubeDevice,
    dtype: BurnType,
}

impl Place {
    fn of(query: &CubeTensor) -> Self {
        Self {
            client: query.client.clone(),
            device: query.device.clone(),
            dtype: query.dtype,
        }
    }

    /// This crate's tensor as Burn's, of the same buffer.
    fn tensor(&self, tensor: &Tensor) -> CubeTensor {
        let dtype = match tensor.dtype() {
            DType::F32 => BurnType::F32,
            _ => self.dtype,
        };
        let meta = Metadata::new(
            Shape::from(tensor.shape().to_vec()),
            Strides::new(tensor.strides()),
        );
        let handle = tensor.handle().clone();
        CubeTensor::new(
            self.client.clone(),
            handle,
            meta,
            self.device.clone(),
            dtype,
        )
    }

    /// `[batch, seq, head, …]` as Burn's `[batch, head, …, seq, dim]`, by its strides alone.
    fn heads_first(&self, tensor: &Tensor) -> CubeTensor {
        self.tensor(&match tensor.shape().len() {
            5 => permuted(tensor, &[0, 2, 3, 1, 4]),
            _ => permuted(tensor, &[0, 2, 1, 3]),
        })
    }

    fn maybe(&self, tensor: Option<Tensor>) -> Maybe<CubeBackend> {
        tensor.map_or(Maybe::Absent, |tensor| Maybe::Given(self.tensor(&tensor)))
    }
}
