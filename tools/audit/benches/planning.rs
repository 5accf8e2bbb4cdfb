//! What a call costs the host: checking and planning it, and enqueueing what was planned on a device that runs nothing.

use std::hint::black_box;

use checks::catalogue::Entry;
use criterion::{Criterion, criterion_group, criterion_main};
use cuda_device::{Arch, Recorder};
use diff_flash_attn::tuning::Family;
use diff_flash_attn::{
    Bindings, DType, Gradients, Mask, Norm, Problem, Saved, Tensor, backward_into, forward_into,
    plan_backward_into, plan_forward_into,
};

fn planning(c: &mut Criterion) {
    let problem = Problem::differential([4, 4096, 4096], [8, 4], [64, 128])
        .with_mask(Mask::Causal)
        .with_norm(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        });
    for (family, dtype) in [
        (Family::Portable, DType::F32),
        (Family::Hopper, DType::BF16),
    ] {
        calls(c, family, problem.with_dtype(dtype));
    }
}

/// The steps of a call, and the whole, forward and backward.
fn calls(c: &mut Criterion, family: Family, p: Problem) {
    let recorder = Recorder::forgetting(Arch::Sm90a).expect("a pretended device");
    let client = recorder.client();
    let entry = Entry {
        problem: p,
        token_lambda: false,
        offset: 0,
        family,
    };
    let (inputs, options) = (entry.inputs(client), entry.options());
    let stored = |shape: &[usize]| Tensor::empty(client, p.dtype, shape);
    let single = |shape: &[usize]| Tensor::empty(client, DType::F32, shape);
    let output = stored(&[p.batch, p.query_len, p.heads, p.value_dim]);
    let saved = Saved::new(
        stored(&[p.batch, p.query_len, p.heads, p.maps, p.value_dim]),
        single(&[p.batch, p.heads, p.maps, p.query_len]),
    );
    let like = |tensor: &Tensor| stored(tensor.shape());
    let gradients = Gradients::new(like(&inputs.query), like(&inputs.key), like(&inputs.value))
        .with_lambda(single(&[p.heads]))
        .with_gamma(single(&[p.value_dim]));
    let grad_output = like(&output);

    let mut group = c.benchmark_group(format!("forward/{family}"));
    let plan = || plan_forward_into(client, &inputs, &options, &output, Some(&saved));
    let planned = plan().expect("a call that fits");
    let tensors = Bindings::forward(&inputs, &output, Some(&saved));
    group.bench_function("check and plan", |b| b.iter(|| black_box(plan())));
    group.bench_function("enqueue", |b| b.iter(|| planned.run(client, &tensors)));
    let call = || forward_into(client, &inputs, &options, &output, Some(&saved));
    group.bench_function("whole", |b| b.iter(call));
    group.finish();

    let mut group = c.benchmark_group(format!("backward/{family}"));
    let plan = || plan_backward_into(client, &inputs, &saved, &grad_output, &options, &gradients);
    let planned = plan().expect("a call that fits");
    let tensors = Bindings::backward(&inputs, &saved, &grad_output, &gradients);
    group.bench_function("check and plan", |b| b.iter(|| black_box(plan())));
    group.bench_function("enqueue", |b| b.iter(|| planned.run(client, &tensors)));
    let call = || backward_into(client, &inputs, &saved, &grad_output, &options, &gradients);
    group.bench_function("whole", |b| b.iter(call));
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
