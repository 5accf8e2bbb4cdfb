//! The same inputs give the same bits: from run to run, and into whatever tensors the results are written.

use checks::cases::Case;
use checks::device::{Layout, Results, client, inputs, options, run};
use cubecl::prelude::Client;
use diff_flash_attn::{
    DType, Gradients, Mask, Norm, Problem, Saved, Tensor, Tuning, backward_into, forward,
    forward_into,
};

fn grouped() -> Case {
    let problem = Problem::differential([2, 113, 203], [4, 2], [16, 32])
        .with_shared_key(true)
        .with_mask(Mask::Causal)
        .with_scale(0.25)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }));
    Case::random(problem, &[1], true, 11)
}

#[test]
fn twenty_runs_give_the_same_bits() {
    let (client, case) = (client(), grouped());
    let first = bits(&run(&client, &case, Layout::Interleaved, Tuning::default()));
    for _ in 1..20 {
        let again = bits(&run(&client, &case, Layout::Interleaved, Tuning::default()));
        assert!(first == again, "a run differs from the first");
    }
}

#[test]
fn written_into_strided_tensors_are_the_same_bits() {
    let (client, case) = (client(), grouped());
    let expected = run(&client, &case, Layout::Interleaved, Tuning::default());
    let ours = run_into(&client, &case);
    assert!(bits(&ours) == bits(&expected), "{ours:?}\n{expected:?}");
}

fn bits(results: &Results) -> Vec<u32> {
    let Results {
        output,
        outputs,
        lse,
        query,
        key,
        value,
        lambda,
        gamma,
    } = results;
    let all = [output, outputs, lse, query, key, value, lambda, gamma];
    all.into_iter().flatten().map(|x| x.to_bits()).collect()
}

/// As `run`, into tensors whose sequence axis lies inside the heads, at an offset.
fn run_into(client: &Client, case: &Case) -> Results {
    let (inputs, options) = (
        inputs(client, case, Layout::Interleaved),
        options(case, Tuning::default()),
    );
    let saved = forward(client, &inputs, &options).unwrap().saved.unwrap();
    let saved = Saved::new(strided(client, saved.outputs.shape()), saved.lse);
    let output = strided(client, &case.output_shape());
    forward_into(client, &inputs, &options, &output, Some(&saved)).unwrap();

    let single = |shape: &[usize]| Tensor::empty(client, DType::F32, shape);
    let gradients = Gradients::new(
        strided(client, &case.query_shape()),
        strided(client, &case.key_shape()),
        strided(client, &case.value_shape()),
    )
    .with_lambda(single(&case.lambda_shape))
    .with_gamma(single(&[case.problem.value_dim]));
    let grad_output =
        Tensor::from_f32(client, DType::F32, &case.output_shape(), &case.grad_output).unwrap();
    backward_into(client, &inputs, &saved, &grad_output, &options, &gradients).unwrap();
    let read = |tensor: &Tensor| tensor.to_f32(client).unwrap();
    Results {
        output: read(&output),
        outputs: read(&saved.outputs),
        lse: read(&saved.lse),
        query: read(&gradients.query),
        key: read(&gradients.key),
        value: read(&gradients.value),
        lambda: read(gradients.lambda.as_ref().unwrap()),
        gamma: read(gradients.gamma.as_ref().unwrap()),
    }
}

/// An empty tensor that keeps axis 2 outside axis 1 and begins 8 elements into its buffer.
fn strided(client: &Client, shape: &[usize]) -> Tensor {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.swap(1, 2);
    let stored: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let len: usize = shape.iter().product();
    let buffer = Tensor::empty(client, DType::F32, &[8 + len]);
    let row_major = Tensor::contiguous(buffer.handle().clone(), DType::F32, &stored);
    let shifted = Tensor::strided(
        buffer.handle().clone(),
        DType::F32,
        8,
        &stored,
        row_major.strides(),
    );
    shifted.permute(&order).unwrap()
}
