//! The operation with and without fusion, autodiff and gradient checkpointing: the same bits.

use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::fusion::Fusion;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorData};
use burn::tensor::{Tensor, activation::silu};
use burn_cubecl::{CubeBackend, CubeDevice};
use diff_flash_attn::burn::{AttentionOps, AttentionTrainingOps, Maybe, diff_attention};
use diff_flash_attn::{Mask, Options};

use crate::cases::{NORM, Source, cube, difference, values};

fn options() -> Options {
    Options {
        mask: Mask::Causal,
        norm: Some(NORM),
        ..Options::default()
    }
}

fn data(shape: &[usize], seed: usize) -> TensorData {
    let len: usize = shape.iter().product();
    let values: Vec<f32> = (0..len)
        .map(|i| ((i * 7 + seed * 13) as f32 * 0.31).sin())
        .collect();
    TensorData::new(values, shape)
}

/// query, key, value, λ, γ.
const SHAPES: [&[usize]; 5] = [
    &[1, 4, 2, 11, 16],
    &[1, 2, 2, 11, 16],
    &[1, 2, 11, 32],
    &[1, 1, 1],
    &[32],
];

fn inputs<B: Backend>(device: &B::Device) -> [FloatTensor<B>; 5] {
    let mut seed = 0;
    SHAPES.map(|shape| {
        seed += 1;
        B::float_from_data(data(shape, seed), device)
    })
}

fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let data = pollster::block_on(B::float_into_data(tensor)).unwrap();
    data.try_to_vec().unwrap()
}

fn output<B: AttentionOps>(device: &B::Device) -> Vec<f32> {
    let [query, key, value, lambda, gamma] = inputs::<B>(device);
    let (lambda, gamma) = (Maybe::Given(lambda), Maybe::Given(gamma));
    read::<B>(B::flash_attention(
        query,
        key,
        value,
        lambda,
        gamma,
        options(),
    ))
}

/// Output and gradients of the sum of squares, whose gradient is no constant.
fn gradients<B: AttentionOps + AttentionTrainingOps, C: CheckpointStrategy>(
    device: &B::Device,
) -> Vec<Vec<f32>> {
    type Diff<B, C> = Autodiff<B, C>;
    let leaves = inputs::<Diff<B, C>>(device).map(|tensor| tensor.require_grad());
    let [query, key, value, lambda, gamma] = leaves.clone();
    let (lambda, gamma) = (Maybe::Given(lambda), Maybe::Given(gamma));
    let output = Diff::<B, C>::flash_attention(query, key, value, lambda, gamma, options());
    let mut results = vec![read::<Diff<B, C>>(output.clone())];
    let loss = Diff::<B, C>::float_mul(output.clone(), output);
    let gradients = Diff::<B, C>::backward(Diff::<B, C>::float_sum(loss));
    for leaf in &leaves {
        results.push(read::<B>(Diff::<B, C>::grad(leaf, &gradients).unwrap()));
    }
    results
}

#[test]
fn every_backend_gives_the_same_bits() {
    let device = CubeDevice::Wgpu(Default::default());
    let plain = output::<CubeBackend>(&device);
    assert!(plain.iter().any(|x| x.abs() > 0.1), "{plain:?}");
    assert_eq!(output::<Fusion<CubeBackend>>(&device), plain);

    let expected = gradients::<CubeBackend, NoCheckpointing>(&device);
    assert_eq!(expected[0], plain);
    assert_eq!(expected.len(), 6);
    for gradient in &expected[1..] {
        assert!(gradient.iter().any(|x| *x != 0.0) && gradient.iter().all(|x| x.is_finite()));
    }
    assert_eq!(
        gradients::<CubeBackend, BalancedCheckpointing>(&device),
        expected
    );
    let fused = gradients::<Fusion<CubeBackend>, NoCheckpointing>(&device);
    assert_eq!(fused, expected);
    let fused = gradients::<Fusion<CubeBackend>, BalancedCheckpointing>(&device);
    assert_eq!(fused, expected);
}

#[test]
fn untracked_inputs_on_an_autodiff_backend_need_nothing_saved() {
    let device = CubeDevice::Wgpu(Default::default());
    assert_eq!(
        output::<Autodiff<CubeBackend>>(&device),
        output::<CubeBackend>(&device)
    );
}

/// Inputs that Burn recomputes: cheap operations before the attention, and after it.
#[test]
fn checkpointing_recomputes_what_comes_before() {
    let run = |device| {
        let mut source = Source::new(burn::tensor::DType::F32, &device);
        let leaves = [
            source.tensor([1, 2, 2, 9, 16]),
            source.tensor([1, 2, 2, 9, 16]),
        ];
        let value = source.tensor([1, 2, 9, 32]);
        let [query, key] = leaves
            .clone()
            .map(|leaf: Tensor<5>| silu(leaf * 1.5) + 0.25);
        let lambda = source.tensor([1]);
        let output = diff_attention(
            query,
            key,
            value.clone().exp(),
            lambda.clone().square(),
            None,
            &options(),
        );
        let gradients = silu(output.clone() * 2.0).sum().backward();
        let mut computed = vec![values(output)];
        computed.extend(leaves.map(|leaf| values(leaf.grad(&gradients).unwrap())));
        computed.push(values(value.grad(&gradients).unwrap()));
        computed.push(values(lambda.grad(&gradients).unwrap()));
        computed
    };
    let plain = run(cube().autodiff());
    let recomputed = run(cube().autodiff().gradient_checkpointing());
    assert_eq!(recomputed.len(), plain.len());
    for (recomputed, plain) in recomputed.iter().zip(&plain) {
        let error = difference(recomputed, plain);
        // Fusion makes other kernels of the operations around it, which round elsewhere.
        assert!(error < 1e-5, "{error:e}");
    }
}

#[test]
fn only_what_is_tracked_gets_a_gradient() {
    let mut source = Source::new(burn::tensor::DType::F32, &cube().autodiff());
    let query = source.tensor([1, 2, 2, 9, 16]);
    let key = source.constant([1, 2, 2, 9, 16]);
    let (value, lambda) = (source.constant([1, 2, 9, 32]), source.constant([1]));
    let output = diff_attention(query.clone(), key.clone(), value, lambda, None, &options());
    let gradients = output.sum().backward();
    assert!(query.grad(&gradients).is_some() && key.grad(&gradients).is_none());
}
