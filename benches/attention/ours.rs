//! This crate's variants. Results are written into tensors made before, so that no allocation is timed.

use anyhow::{Context, Result};
use diff_flash_attn::{
    Direction, Gradients, Inputs, Tensor, backward, backward_into, forward, forward_into,
};

use crate::data::{Data, LAMBDA, of_map};
use crate::variant::{Call, Variant};

/// One call for both maps.
pub(crate) fn differential(data: &Data) -> Result<Variant> {
    let inputs = data.differential();
    if data.direction == Direction::Forward {
        let (call, output) = forward_call(data, inputs)?;
        return Ok(Variant::forward(vec![call], vec![(1.0, output)]));
    }
    let (call, gradients) = backward_call(data, inputs, data.grad_output.clone())?;
    Ok(paired(
        call,
        &gradients.query,
        &gradients.key,
        gradients.value,
    ))
}

/// One call for 2H heads of one map.
pub(crate) fn standard(data: &Data) -> Result<Variant> {
    let inputs = data.standard();
    if data.direction == Direction::Forward {
        let (call, output) = forward_call(data, inputs)?;
        return Ok(Variant::forward(vec![call], vec![(1.0, output)]));
    }
    let (call, gradients) = backward_call(data, inputs, data.split(&data.grad_output))?;
    let [query, key] = [&gradients.query, &gradients.key].map(|gradient| data.pair(gradient));
    Ok(paired(call, &query, &key, gradients.value))
}

/// One call for each map. The subtraction of the outputs is not timed, nor is the sum of the gradients of the value.
pub(crate) fn two_calls(data: &Data) -> Result<Variant> {
    if data.direction == Direction::Forward {
        let (call1, output1) = forward_call(data, data.one_map(0))?;
        let (call2, output2) = forward_call(data, data.one_map(1))?;
        let terms = vec![(1.0, output1), (-LAMBDA, output2)];
        return Ok(Variant::forward(vec![call1, call2], terms));
    }
    let (call1, map1) = backward_call(data, data.one_map(0), data.grad_of_map(0)?)?;
    let (call2, map2) = backward_call(data, data.one_map(1), data.grad_of_map(1)?)?;
    Ok(Variant::backward(
        vec![call1, call2],
        [map1.query, map2.query],
        [map1.key, map2.key],
        vec![map1.value, map2.value],
    ))
}

/// A backward call whose gradients of query and key hold both maps, `[B, N, H, 2, d]`.
fn paired(call: Call, query: &Tensor, key: &Tensor, value: Tensor) -> Variant {
    let maps = |gradient| [of_map(gradient, 0), of_map(gradient, 1)];
    Variant::backward(vec![call], maps(query), maps(key), vec![value])
}

fn forward_call(data: &Data, inputs: Inputs) -> Result<(Call, Tensor)> {
    let (client, options) = (data.client.clone(), data.options());
    let output = forward(&client, &inputs, &options)?.output;
    let target = output.clone();
    let call = move || Ok(forward_into(&client, &inputs, &options, &target, None)?);
    Ok((Box::new(call), output))
}

fn backward_call(data: &Data, inputs: Inputs, grad_output: Tensor) -> Result<(Call, Gradients)> {
    let (client, options) = (data.client.clone(), data.options());
    let saved = forward(&client, &inputs, &options)?
        .saved
        .context("nothing is saved")?;
    let gradients = backward(&client, &inputs, &saved, &grad_output, &options)?;
    let targets = gradients.clone();
    let call = move || {
        backward_into(&client, &inputs, &saved, &grad_output, &options, &targets)?;
        Ok(())
    };
    Ok((Box::new(call), gradients))
}
