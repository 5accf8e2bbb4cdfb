//! Cases on the device: upload in a layout, run forward and backward, compare every tensor.

use diff_flash_attn::Client;
use diff_flash_attn::reference;
use diff_flash_attn::{
    DType, Gradients, Inputs, Options, Saved, Tensor, Tuning, backward, device, forward,
};

use super::cases::{Case, wide};
use super::plain;
use super::tolerance::Check;

/// How query, key, value and λ lie in memory; their axis order for the library is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
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
pub(crate) fn client() -> Client {
    device::default_client().expect("these tests need a device")
}

/// Whether the device stores `dtype`; says so if it does not.
pub(crate) fn supports(client: &Client, dtype: DType) -> bool {
    let probe = Tensor::from_f32(client, dtype, &[1, 1, 1, 8], &[0.0; 8]).unwrap();
    let inputs = Inputs::standard(probe.clone(), probe.clone(), probe);
    match forward(client, &inputs, &Options::default()) {
        Ok(_) => true,
        Err(reason) => {
            println!("SKIPPED {dtype}: {reason}");
            false
        }
    }
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
pub(crate) fn inputs(client: &Client, case: &Case, layout: Layout) -> Inputs {
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
    Inputs {
        query: put(&case.query, &case.query_shape()),
        key: put(&case.key, &case.key_shape()),
        value: put(&case.value, &value_shape),
        lambda: (case.problem.maps == 2).then(|| single(&case.lambda, &case.lambda_shape)),
        gamma: case
            .gamma
            .as_ref()
            .map(|gamma| single(gamma, &[gamma.len()])),
    }
}

/// The options that pose the case's problem.
pub(crate) fn options(case: &Case, tuning: Tuning) -> Options {
    Options {
        mask: case.problem.mask,
        scale: Some(case.problem.scale),
        norm: case.problem.norm,
        save_for_backward: true,
        tuning,
    }
}

/// Everything that the device computes for a case, read back.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    pub(crate) output: Vec<f32>,
    pub(crate) outputs: Vec<f32>,
    pub(crate) lse: Vec<f32>,
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
    pub(crate) value: Vec<f32>,
    pub(crate) lambda: Vec<f32>,
    pub(crate) gamma: Vec<f32>,
}

/// Runs forward and backward.
pub(crate) fn run(client: &Client, case: &Case, layout: Layout, tuning: Tuning) -> Results {
    let (inputs, options) = (inputs(client, case, layout), options(case, tuning));
    let grad_output = Tensor::from_f32(
        client,
        case.problem.dtype,
        &case.output_shape(),
        &case.grad_output,
    )
    .unwrap();
    let (saved, results) = forward_results(client, &inputs, &options);
    let grads = backward(client, &inputs, &saved, &grad_output, &options).unwrap();
    let read = |tensor: &Tensor| tensor.to_f32(client).unwrap();
    let maybe = |tensor: &Option<Tensor>| tensor.as_ref().map(read).unwrap_or_default();
    let Gradients {
        query,
        key,
        value,
        lambda,
        gamma,
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
pub(crate) fn run_forward(client: &Client, case: &Case, layout: Layout, tuning: Tuning) -> Results {
    forward_results(
        client,
        &inputs(client, case, layout),
        &options(case, tuning),
    )
    .1
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

/// Compares every tensor with the reference, allowing what FlashAttention's rule allows.
pub(crate) fn checks(case: &Case, ours: &Results) -> Vec<Check> {
    let mut checks = forward_checks(case, ours);
    checks.extend(gradient_checks(case, ours));
    checks
}

/// The same of what forward computes alone.
pub(crate) fn forward_checks(case: &Case, ours: &Results) -> Vec<Check> {
    let (exact, plain) = (case.forward(), plain::forward(case));
    let stored = case.problem.dtype;
    let mut checks = vec![
        Check::new("output", stored, &ours.output, &exact.output, &plain.output),
        Check::new("lse", DType::F32, &ours.lse, &exact.lse, &plain.lse),
    ];
    checks.extend(saved_checks(case, ours, &exact, &plain));
    checks
}

fn gradient_checks(case: &Case, ours: &Results) -> Vec<Check> {
    let (exact, plain) = (case.backward(), plain::backward(case));
    let stored = case.problem.dtype;
    let mut checks = vec![
        Check::new("dq", stored, &ours.query, &exact.query, &plain.query),
        Check::new("dk", stored, &ours.key, &exact.key, &plain.key),
        Check::new("dv", stored, &ours.value, &exact.value, &plain.value),
    ];
    // The heads of a group add into one accumulator of dk and dv, not first each into its own as the plain ones do:
    // rounding grows with the square root of the terms.
    let grouped = (case.problem.group() as f64).sqrt();
    for check in &mut checks[1..] {
        check.allowed *= grouped;
    }
    if case.problem.maps == 2 {
        let (ours, exact, plain) = (&ours.lambda, &exact.lambda, &plain.lambda);
        let mut check = Check::new("dlambda", DType::F32, ours, exact, plain);
        check.allowed += 2.0 * summed_noise(case);
        checks.push(check);
    }
    if let (Some(exact), Some(plain)) = (&exact.gamma, &plain.gamma) {
        checks.push(Check::new("dgamma", DType::F32, &ours.gamma, exact, plain));
    }
    checks
}

/// What the errors of single rows of dλ add up to in the sums that λ's shape asks for, were their signs random: one
/// plain sum alone says little, as it may be right by chance. 0 for a λ of every token and head.
fn summed_noise(case: &Case) -> f64 {
    let rows = case.rows();
    let sums = case.lambda.len();
    if sums == rows.iter().product::<usize>() {
        return 0.0;
    }
    let each = reference::expand(&wide(&case.lambda), &case.lambda_shape, rows).unwrap();
    let case = Case {
        lambda: each.iter().map(|x| *x as f32).collect(),
        lambda_shape: rows.to_vec(),
        ..case.clone()
    };
    let (exact, plain) = (case.backward().lambda, plain::backward(&case).lambda);
    let squares = exact.iter().zip(&plain).map(|(x, y)| (x - y).powi(2));
    (squares.sum::<f64>() / sums as f64).sqrt()
}

/// `O` and `O_2` before the norm.
fn saved_checks(
    case: &Case,
    ours: &Results,
    exact: &reference::Forward,
    plain: &reference::Forward,
) -> Vec<Check> {
    let (dim, maps) = (case.problem.value_dim, case.problem.maps);
    let of_map = |m: usize| -> Vec<f32> {
        ours.outputs
            .chunks(maps * dim)
            .flat_map(|row| row[m * dim..][..dim].to_vec())
            .collect()
    };
    let dtype = case.problem.dtype;
    let mut checks = vec![Check::new(
        "O",
        dtype,
        &of_map(0),
        &exact.unnormalized,
        &plain.unnormalized,
    )];
    if maps == 2 {
        checks.push(Check::new(
            "O2",
            dtype,
            &of_map(1),
            &exact.noise_output,
            &plain.noise_output,
        ));
    }
    checks
}
