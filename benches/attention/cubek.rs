//! cubek-attention's routine `Unit`, called once for each map.

use anyhow::{Context, Result, anyhow};
use cubecl::prelude::*;
use cubecl::std::tensor::TensorHandle;
use cubek_attention::backward::{BackwardConfig, flash_attention_backward};
use cubek_attention::forward::definition::{AttentionGlobalTypes, AttentionOptions};
use cubek_attention::forward::launch::{BlueprintStrategy, Strategy, launch_ref};
use diff_flash_attn::{DType, Direction, Inputs, Mask, Problem, Tensor, forward};

use crate::data::{Data, LAMBDA, elem};
use crate::variant::{Call, Variant};

/// Iterations after which lavapipe ends a unit's loops, without an error.
const LAVAPIPE_ITERATIONS: usize = 65_535;

/// Longest sequence for its backward kernels, in which one unit goes over a whole row.
const LONGEST_BACKWARD: usize = 1024;

/// Why it is not timed, if so.
pub(crate) fn refusal(client: &Client, problem: &Problem, direction: Direction) -> Option<String> {
    if direction == Direction::Forward {
        return None;
    }
    let length = problem.query_len;
    let iterations = length * (2 * problem.head_dim + problem.value_dim + 1);
    let lavapipe = client.properties().identity.name.contains("llvmpipe");
    if problem.dtype != DType::F32 {
        Some(format!(
            "its backward computes in f32 only, not {}",
            problem.dtype
        ))
    } else if lavapipe && iterations > LAVAPIPE_ITERATIONS {
        let limit = LAVAPIPE_ITERATIONS;
        Some(format!(
            "its backward loops {iterations} times a unit, lavapipe stops at {limit}"
        ))
    } else if length > LONGEST_BACKWARD {
        Some(format!(
            "its backward is naive, timed up to N = {LONGEST_BACKWARD}"
        ))
    } else {
        None
    }
}

/// One call for each map. As with our own two calls, what combines them is not timed.
pub(crate) fn two_calls(data: &Data) -> Result<Variant> {
    if data.direction == Direction::Forward {
        let (call1, output1) = forward_call(data, 0)?;
        let (call2, output2) = forward_call(data, 1)?;
        let terms = vec![(1.0, output1), (-LAMBDA, output2)];
        return Ok(Variant::forward(vec![call1, call2], terms));
    }
    let (call1, [query1, key1, value1]) = backward_call(data, 0)?;
    let (call2, [query2, key2, value2]) = backward_call(data, 1)?;
    Ok(Variant::backward(
        vec![call1, call2],
        [query1, query2],
        [key1, key2],
        vec![value1, value2],
    ))
}

fn forward_call(data: &Data, map: usize) -> Result<(Call, Tensor)> {
    let client = data.client.clone();
    let [query, key, value] = operands(data, &data.one_map(map))?;
    let output = Tensor::empty(&client, data.problem.dtype, value.shape());
    let [query, key, value, target] = [&query, &key, &value, &output].map(handle);
    let types = types(&client, data.problem.dtype);
    let causal = data.problem.mask == Mask::Causal;
    let call = move || {
        let options = AttentionOptions {
            causal,
            ..AttentionOptions::default()
        };
        let [query, key, value, target] = [&query, &key, &value, &target].map(binding);
        let unit = Strategy::Unit(BlueprintStrategy::Inferred(()));
        launch_ref(
            unit, &client, query, key, value, None, target, &types, options,
        )
        .map_err(|error| anyhow!("{error:?}"))
    };
    Ok((Box::new(call), swapped(&output)?))
}

fn backward_call(data: &Data, map: usize) -> Result<(Call, [Tensor; 3])> {
    let (client, inputs) = (data.client.clone(), data.one_map(map));
    let operands = operands(data, &inputs)?;
    let [output, lse] = saved(data, &inputs)?;
    let grad_output = handle(&heads_first(&client, &data.grad_of_map(map)?)?);
    let empty = |operand: &Tensor| Tensor::empty(&client, operand.dtype(), operand.shape());
    let gradients = operands.each_ref().map(empty);
    let [reads, writes] = [&operands, &gradients].map(|tensors| tensors.each_ref().map(handle));
    let types = types(&client, data.problem.dtype);
    let config = BackwardConfig {
        causal: data.problem.mask == Mask::Causal,
        ..BackwardConfig::from_head_dim(data.problem.head_dim)
    };
    let call = move || {
        let [query, key, value] = reads.each_ref().map(binding);
        let [output, lse, grad_output] = [&output, &lse, &grad_output].map(binding);
        let [grad_query, grad_key, grad_value] = writes.each_ref().map(binding);
        flash_attention_backward(
            &client,
            query,
            key,
            value,
            output,
            lse,
            grad_output,
            grad_query,
            grad_key,
            grad_value,
            &types,
            config.clone(),
        )
        .map_err(|error| anyhow!("{error:?}"))
    };
    let [query, key, value] = gradients.each_ref().map(swapped);
    Ok((Box::new(call), [query?, key?, value?]))
}

/// The output `[B, H, N, dv]` and the log-sum-exp `[B, H, N]`, from our forward pass: its own returns no log-sum-exp.
fn saved(data: &Data, inputs: &Inputs) -> Result<[TensorHandle; 2]> {
    let result = forward(&data.client, inputs, &data.options())?;
    let lse = result.saved.context("nothing is saved")?.lse;
    let shape = [0, 1, 3].map(|axis| lse.shape()[axis]);
    let lse = Tensor::contiguous(lse.handle().clone(), DType::F32, &shape);
    Ok([&heads_first(&data.client, &result.output)?, &lse].map(handle))
}

/// Query, key and value in its only layout, `[B, H, N, d]` row-major.
fn operands(data: &Data, inputs: &Inputs) -> Result<[Tensor; 3]> {
    let [query, key, value] =
        [&inputs.query, &inputs.key, &inputs.value].map(|tensor| heads_first(&data.client, tensor));
    Ok([query?, key?, value?])
}

/// A copy of `[B, N, H, d]` as `[B, H, N, d]`, row-major.
fn heads_first(client: &Client, tensor: &Tensor) -> Result<Tensor> {
    let view = swapped(tensor)?;
    let values = view.to_f32(client)?;
    Ok(Tensor::from_f32(
        client,
        tensor.dtype(),
        view.shape(),
        &values,
    )?)
}

/// A view with the axes of sequence and heads exchanged.
fn swapped(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.permute(&[0, 2, 1, 3])?)
}

fn handle(tensor: &Tensor) -> TensorHandle {
    let elem = elem(tensor.dtype());
    TensorHandle::new_contiguous(tensor.shape(), tensor.handle().clone(), elem)
}

fn binding(handle: &TensorHandle) -> TensorBinding {
    handle.clone().binding()
}

fn types(client: &Client, dtype: DType) -> AttentionGlobalTypes {
    let mask = AttentionGlobalTypes::mask_dtype(client);
    AttentionGlobalTypes::from_single_float_dtype(elem(dtype), mask)
}
