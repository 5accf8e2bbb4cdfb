//! cubek-attention's routine `Unit`, called once for each map.

use anyhow::{Context, Result, anyhow, bail};
use cubecl::prelude::*;
use cubecl::std::tensor::TensorHandle;
use cubek_attention::backward::{BackwardConfig, flash_attention_backward};
use cubek_attention::forward::definition::{AttentionGlobalTypes, AttentionOptions};
use cubek_attention::forward::launch::{BlueprintStrategy, Strategy, launch_ref};
use diff_flash_attn::{DType, Direction, Inputs, Mask, Problem, Tensor, forward};
use half::{bf16, f16};

use crate::data::{Data, LAMBDA};
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
        let [query, key, value, target] =
            [&query, &key, &value, &target].map(|tensor| tensor.clone().binding());
        let unit = Strategy::Unit(BlueprintStrategy::Inferred(()));
        launch_ref(
            unit, &client, query, key, value, None, target, &types, options,
        )
        .map_err(|error| anyhow!("{error:?}"))
    };
    Ok((Box::new(call), swapped(&output)?))
}

fn backward_call(data: &Data, map: usize) -> Result<(Call, [Tensor; 3])> {
    let client = data.client.clone();
    let inputs = data.one_map(map);
    // Its forward pass returns no log-sum-exp; ours does.
    let result = forward(&client, &inputs, &data.options())?;
    let lse = result.saved.context("nothing is saved")?.lse;
    let output = heads_first(&client, &result.output)?;
    let grad_output = heads_first(&client, &data.grad_of_map(map)?)?;
    let operands = operands(data, &inputs)?;
    let gradients = operands
        .each_ref()
        .map(|operand| Tensor::empty(&client, data.problem.dtype, operand.shape()));
    let [batch, heads, _, length] = *lse.shape() else {
        bail!("lse has another rank");
    };
    let lse = TensorHandle::new_contiguous(
        [batch, heads, length],
        lse.handle().clone(),
        f32::elem_type_native(),
    );
    let reads = [
        &operands[0],
        &operands[1],
        &operands[2],
        &output,
        &grad_output,
    ]
    .map(handle);
    let writes = gradients.each_ref().map(handle);
    let types = types(&client, data.problem.dtype);
    let config = BackwardConfig {
        causal: data.problem.mask == Mask::Causal,
        ..BackwardConfig::from_head_dim(data.problem.head_dim)
    };
    let call = move || {
        let [query, key, value, output, grad_output] =
            reads.each_ref().map(|tensor| tensor.clone().binding());
        let [grad_query, grad_key, grad_value] =
            writes.each_ref().map(|tensor| tensor.clone().binding());
        flash_attention_backward(
            &client,
            query,
            key,
            value,
            output,
            lse.clone().binding(),
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

fn types(client: &Client, dtype: DType) -> AttentionGlobalTypes {
    let mask = AttentionGlobalTypes::mask_dtype(client);
    AttentionGlobalTypes::from_single_float_dtype(elem(dtype), mask)
}

fn elem(dtype: DType) -> ElemType {
    match dtype {
        DType::F32 => f32::elem_type_native(),
        DType::F16 => f16::elem_type_native(),
        DType::BF16 => bf16::elem_type_native(),
    }
}
