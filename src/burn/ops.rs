//! Attention as Burn operations: what a backend implements, and what Burn's dispatch and fusion generate from it.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};
use burn::tensor::{DType, Shape};

use crate::attention::Options;

/// A tensor that an operation may do without.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub enum Maybe<B: Backend> {
    /// No tensor.
    Absent,
    /// The tensor.
    Given(FloatTensor<B>),
}

/// Output, and what the backward pass needs beside the inputs.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct AttentionSaved<B: Backend> {
    /// `[B, H, Nq, dv]`.
    pub output: FloatTensor<B>,
    /// Before the norm, of every map: `[B, Nq, H, maps, dv]`.
    pub outputs: FloatTensor<B>,
    /// Log-sum-exp of the scores: `[B, H, maps, Nq]`.
    pub lse: FloatTensor<B>,
}

/// Gradients of the inputs, each with the shape of its input.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion)]
pub struct AttentionGradients<B: Backend> {
    /// Of the query.
    pub query: FloatTensor<B>,
    /// Of the key.
    pub key: FloatTensor<B>,
    /// Of the value.
    pub value: FloatTensor<B>,
    /// Of λ.
    #[extension_type]
    pub lambda: Maybe<B>,
    /// Of the norm's weight.
    #[extension_type]
    pub gamma: Maybe<B>,
}

/// Attention on a backend's own tensors: `query` is `[B, H, 2, Nq, d]`, or `[B, H, Nq, d]` where `lambda` is absent;
/// `key` is `[B, Hk, 2, Nk, d]`, or `[B, Hk, Nk, d]`; `value` is `[B, Hk, Nk, dv]` or `[B, Hk, 2, Nk, dv/2]`; `lambda`
/// broadcasts to `[B, H, Nq]` and `gamma` is `[dv]`, both in `f32`.
///
/// The functions of this module on [`Tensor`](burn::tensor::Tensor)s are made from it; call those.
#[backend_extension(Cube, Fusion, Autodiff)]
pub trait AttentionOps: Backend {
    /// The output, `[B, H, Nq, dv]`.
    #[fusion(meta = |query, _key, value, _lambda, _gamma, _options| output_spec(query, value))]
    fn flash_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] lambda: Maybe<Self>,
        #[extension_type] gamma: Maybe<Self>,
        options: Options,
    ) -> FloatTensor<Self>;
}

/// The two halves of a training step. An autodiff backend has [`AttentionOps`] only: attention is differentiable once.
#[backend_extension(Cube, Fusion)]
pub trait AttentionTrainingOps: Backend {
    /// As [`AttentionOps::flash_attention`], keeping what the backward pass needs.
    #[fusion(meta = |query, _key, value, _lambda, _gamma, _options| saved_spec(query, value))]
    fn flash_attention_saved(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] lambda: Maybe<Self>,
        #[extension_type] gamma: Maybe<Self>,
        options: Options,
    ) -> AttentionSaved<Self>;

    /// Gradients of the inputs from `grad`, that of the output.
    #[fusion(meta = |query, key, value, lambda, gamma, _outputs, _lse, _grad, _options| AttentionGradientsMetadata {
        query: query.clone(),
        key: key.clone(),
        value: value.clone(),
        lambda: lambda.clone(),
        gamma: gamma.clone(),
    })]
    #[allow(clippy::too_many_arguments, reason = "the tensors of a backward pass")]
    fn flash_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] lambda: Maybe<Self>,
        #[extension_type] gamma: Maybe<Self>,
        outputs: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: Options,
    ) -> AttentionGradients<Self>;
}

/// Batch, heads, maps and queries of a query's shape.
fn query_sizes(query: &Shape) -> [usize; 4] {
    let maps = if query.rank() == 5 { query[2] } else { 1 };
    [query[0], query[1], maps, query[query.rank() - 2]]
}

/// Size of the value's last axis, halves together.
fn value_dim(value: &Shape) -> usize {
    let halves = if value.rank() == 5 { value[2] } else { 1 };
    halves * value[value.rank() - 1]
}

fn output_spec(query: &TensorSpec, value: &TensorSpec) -> TensorSpec {
    let [batch, heads, _, queries] = query_sizes(&query.shape);
    let shape = [batch, heads, queries, value_dim(&value.shape)];
    TensorSpec::new(Shape::new(shape), query.dtype)
}

fn saved_spec(query: &TensorSpec, value: &TensorSpec) -> AttentionSavedMetadata {
    let [batch, heads, maps, queries] = query_sizes(&query.shape);
    let outputs = [batch, queries, heads, maps, value_dim(&value.shape)];
    AttentionSavedMetadata {
        output: output_spec(query, value),
        outputs: TensorSpec::new(Shape::new(outputs), query.dtype),
        lse: TensorSpec::new(Shape::new([batch, heads, maps, queries]), DType::F32),
    }
}
