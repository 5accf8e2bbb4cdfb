//! Cases on the device: upload in a layout, run forward and backward, compare every tensor.

use core::ops::Range;

use diff_flash_attn::reference;
use diff_flash_attn::tuning::Family;
use diff_flash_attn::{
    Client, DType, Gradients, Inputs, Options, Result, Saved, Tensor, Tuning, backward, device,
    forward, plan_forward,
};

use crate::cases::Case;
use crate::plain;
use crate::rounding::Rounding;
use crate::tolerance::{Check, Expected};

/// How query, key, value and λ lie in memory; their axis order for the library is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[B, N, H, 2, d]`, row-major.
    Interleaved,
    /// `[B, N, 2, H, d]`: heads i and i + H form a pair, value halves lie apart.
    HalfSplit,
    /// `[B, H, 2, N, d]`.
    HeadsFirst,
    /// Interleaved in a larger buffer: an odd offset, and rows one element longer than needed.
    Unaligned,
}

/// The default device of this process.
pub fn client() -> Client {
    device::default_client().expect("these tests need a device")
}

/// Whether the device stores `dtype`; says so if it does not.
pub fn supports(client: &Client, dtype: DType) -> bool {
    let probe = Tensor::from_f32(client, dtype, &[1, 1, 1, 8], &[0.0; 8]).unwrap();
    let inputs = Inputs::standard(probe.clone(), probe.clone(), probe);
    match forward(client, &inputs, &Options::default()) {
        Ok(_) => true,
        Err(reason) => {
            crate::skipped(format_args!("{dtype}: {reason}"));
            false
        }
    }
}

/// The family whose forward kernel a problem gets.
///
/// # Errors
/// Those of [`plan_forward`].
pub fn forward_family(client: &Client, inputs: &Inputs, options: &Options) -> Result<Family> {
    let plan = plan_forward(client, inputs, options)?;
    let family = plan.describe().into_iter().find_map(|step| step.family);
    Ok(family.expect("one step is a family's"))
}

/// Uploads row-major `values` of `shape` so that axis `order[i]` is the i-th in memory.
fn upload(
    client: &Client,
    dtype: DType,
    values: &[f32],
    shape: &[usize],
    order: &[usize],
) -> Tensor {
    let stored: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let mut inverse = vec![0; order.len()];
    for (i, axis) in order.iter().enumerate() {
        inverse[*axis] = i;
    }
    let mut out = vec![0.0; values.len()];
    let strides = row_major(shape);
    for (linear, slot) in out.iter_mut().enumerate() {
        let (mut rest, mut at) = (linear, 0);
        for (i, n) in stored.iter().enumerate().rev() {
            at += rest % n * strides[order[i]];
            rest /= n;
        }
        *slot = values[at];
    }
    Tensor::from_f32(client, dtype, &stored, &out)
        .unwrap()
        .permute(&inverse)
        .unwrap()
}

/// Uploads with an odd offset and rows that are one element apart.
fn upload_unaligned(client: &Client, dtype: DType, values: &[f32], shape: &[usize]) -> Tensor {
    let dim = shape[shape.len() - 1];
    let mut strides = row_major(shape);
    let last = strides.len() - 1;
    strides[..last]
        .iter_mut()
        .for_each(|s| *s = *s / dim * (dim + 1));
    let mut padded = vec![f32::NAN; 3];
    for row in values.chunks(dim) {
        padded.extend(row);
        padded.push(f32::NAN);
    }
    let buffer = Tensor::from_f32(client, dtype, &[padded.len()], &padded).unwrap();
    Tensor::strided(buffer.handle().clone(), dtype, 3, shape, &strides)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// The case's inputs on the device.
pub fn inputs(client: &Client, case: &Case, layout: Layout) -> Inputs {
    let dtype = case.problem.dtype;
    let put = |values: &[f32], shape: &[usize]| match (layout, shape.len()) {
        (Layout::Unaligned, _) => upload_unaligned(client, dtype, values, shape),
        (Layout::HalfSplit, 5) => upload(client, dtype, values, shape, &[0, 1, 3, 2, 4]),
        (Layout::HeadsFirst, 5) => upload(client, dtype, values, shape, &[0, 2, 3, 1, 4]),
        (Layout::HeadsFirst, 4) => upload(client, dtype, values, shape, &[0, 2, 1, 3]),
        _ => Tensor::from_f32(client, dtype, shape, values).unwrap(),
    };
    let mut value_shape = case.value_shape();
    if layout == Layout::HalfSplit {
        let half = value_shape[3] / 2;
        value_shape.splice(3.., [2, half]);
    }
    let single = |values: &[f32], shape: &[usize]| {
        Tensor::from_f32(client, DType::F32, shape, values).unwrap()
    };
    let lambda = (case.problem.maps == 2).then(|| single(&case.lambda, &case.lambda_shape));
    let gamma = case
        .gamma
        .as_ref()
        .map(|gamma| single(gamma, &[gamma.len()]));
    let (query, key, value) = (
        put(&case.query, &case.query_shape()),
        put(&case.key, &case.key_shape()),
        put(&case.value, &value_shape),
    );
    Inputs::standard(query, key, value)
        .with_lambda(lambda)
        .with_gamma(gamma)
}

/// The options that pose the case's problem.
pub fn options(case: &Case, tuning: Tuning) -> Options {
    Options::default()
        .with_mask(case.problem.mask)
        .with_scale(Some(case.problem.scale))
        .with_norm(case.problem.norm)
        .with_save_for_backward(true)
        .with_tuning(tuning)
}

/// Everything that the device computes for a case, read back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// `[B, Nq, H, dv]`.
    pub output: Vec<f32>,
    /// What was saved of every map: `[B, Nq, H, maps, dv]`.
    pub outputs: Vec<f32>,
    /// Log-sum-exps: `[B, H, maps, Nq]`.
    pub lse: Vec<f32>,
    /// Gradient of the query.
    pub query: Vec<f32>,
    /// Gradient of the key.
    pub key: Vec<f32>,
    /// Gradient of the value.
    pub value: Vec<f32>,
    /// Gradient of λ, empty for standard attention.
    pub lambda: Vec<f32>,
    /// Gradient of γ, empty where there is none.
    pub gamma: Vec<f32>,
}

/// Runs forward and backward.
pub fn run(client: &Client, case: &Case, layout: Layout, tuning: Tuning) -> Results {
    run_inputs(client, case, &inputs(client, case, layout), tuning)
}

/// Runs forward and backward of a case whose inputs are on the device already.
pub fn run_inputs(client: &Client, case: &Case, inputs: &Inputs, tuning: Tuning) -> Results {
    let options = options(case, tuning);
    let grad_output = Tensor::from_f32(
        client,
        case.problem.dtype,
        &case.output_shape(),
        &case.grad_output,
    )
    .unwrap();
    let (saved, results) = forward_results(client, inputs, &options);
    let grads = backward(client, inputs, &saved, &grad_output, &options).unwrap();
    let read = |tensor: &Tensor| tensor.to_f32(client).unwrap();
    let maybe = |tensor: &Option<Tensor>| tensor.as_ref().map(read).unwrap_or_default();
    let Gradients {
        query,
        key,
        value,
        lambda,
        gamma,
        ..
    } = &grads;
    Results {
        query: read(query),
        key: read(key),
        value: read(value),
        lambda: maybe(lambda),
        gamma: maybe(gamma),
        ..results
    }
}

/// Runs forward alone.
pub fn run_forward(client: &Client, case: &Case, layout: Layout, tuning: Tuning) -> Results {
    let inputs = inputs(client, case, layout);
    forward_results(client, &inputs, &options(case, tuning)).1
}

fn forward_results(client: &Client, inputs: &Inputs, options: &Options) -> (Saved, Results) {
    let result = forward(client, inputs, options).unwrap();
    let saved = result.saved.unwrap();
    let read = |tensor: &Tensor| tensor.to_f32(client).unwrap();
    let results = Results {
        output: read(&result.output),
        outputs: read(&saved.outputs),
        lse: read(&saved.lse),
        ..Results::default()
    };
    (saved, results)
}

/// Compares every tensor with the reference by the rules of [`crate::tolerance`].
pub fn checks(case: &Case, ours: &Results) -> Vec<Check> {
    compare(case, ours, 0..9)
}

/// The same of what forward computes alone.
pub fn forward_checks(case: &Case, ours: &Results) -> Vec<Check> {
    compare(case, ours, 0..FORWARD)
}

/// Tensors that forward computes, the first of all.
const FORWARD: usize = 4;

/// No gradients.
fn nothing() -> reference::Gradients {
    reference::Gradients {
        query: vec![],
        key: vec![],
        value: vec![],
        lambda: vec![],
        gamma: None,
    }
}

/// What the plain implementation's errors in every row's gradient of λ add up to where λ is shared: twice the root of
/// their squares' sum, the standard deviation of a sum of independent errors.
fn summed(case: &Case, exact: &reference::Gradients, plain: &reference::Gradients) -> f64 {
    if case.lambda.len() == exact.lambda.len() {
        return 0.0;
    }
    let errors = exact.lambda.iter().zip(&plain.lambda);
    let squares: Vec<_> = errors.map(|(x, y)| (x - y).powi(2)).collect();
    let sums = case.reduce(&squares);
    2.0 * sums.into_iter().fold(0.0, f64::max).sqrt()
}

/// Compares some of the [`tensors`].
fn compare(case: &Case, ours: &Results, which: Range<usize>) -> Vec<Check> {
    let (exact, plain) = (case.forward(), plain::forward(case));
    let (rows, plain_rows) = if which.end > FORWARD {
        (case.backward_rows(), plain::backward_rows(case))
    } else {
        (nothing(), nothing())
    };
    let summed = summed(case, &rows, &plain_rows);
    let grad = reference::Gradients {
        lambda: case.reduce(&rows.lambda),
        ..rows
    };
    let plain_grad = reference::Gradients {
        lambda: plain::reduce(case, &plain_rows.lambda),
        ..plain_rows
    };
    let cost = (case.problem.dtype == DType::F32).then(|| Rounding::of(case, &exact));
    let costs = cost.as_ref().map(|c| tensors(&c.forward, &c.backward));
    let plain = tensors(&plain, &plain_grad);
    let exact = tensors(&exact, &grad);
    let mut checks = vec![];
    for (i, (dtype, ours)) in stored(case, ours).into_iter().enumerate() {
        let (name, exact) = exact[i];
        let expected = Expected {
            exact,
            plain: plain[i].1,
            summed: if name == "dlambda" { summed } else { 0.0 },
            rounding: costs.as_ref().map(|costs| costs[i].1),
        };
        // Standard attention has no λ and no O_2, a norm without weight no γ.
        let present = !exact.is_empty() || !ours.is_empty();
        if present && which.contains(&i) {
            checks.push(Check::new(name, dtype, &ours, &expected));
        }
    }
    checks
}

/// What the reference computes, by name; what a problem does not have is empty.
pub fn tensors<'a>(
    forward: &'a reference::Forward,
    grad: &'a reference::Gradients,
) -> [(&'static str, &'a [f64]); 9] {
    [
        ("output", &forward.output),
        ("O", &forward.unnormalized),
        ("O2", &forward.noise_output),
        ("lse", &forward.lse),
        ("dq", &grad.query),
        ("dk", &grad.key),
        ("dv", &grad.value),
        ("dlambda", &grad.lambda),
        ("dgamma", grad.gamma.as_deref().unwrap_or_default()),
    ]
}

/// What the device computed and the type that it is stored in, in the order of [`tensors`].
pub fn stored(case: &Case, ours: &Results) -> [(DType, Vec<f32>); 9] {
    let (dtype, single) = (case.problem.dtype, DType::F32);
    [
        (dtype, ours.output.clone()),
        (dtype, of_map(case, ours, 0)),
        (dtype, of_map(case, ours, 1)),
        (single, ours.lse.clone()),
        (dtype, ours.query.clone()),
        (dtype, ours.key.clone()),
        (dtype, ours.value.clone()),
        (single, ours.lambda.clone()),
        (single, ours.gamma.clone()),
    ]
}

/// `O` or, if there are two maps, `O_2` before the norm.
fn of_map(case: &Case, ours: &Results, m: usize) -> Vec<f32> {
    let (dim, maps) = (case.problem.value_dim, case.problem.maps);
    let rows = ours.outputs.chunks(maps * dim);
    rows.flat_map(|row| row.chunks(dim).nth(m).unwrap_or(&[]))
        .copied()
        .collect()
}
