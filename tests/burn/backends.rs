//! The operation with and without fusion, autodiff and gradient checkpointing: the same bits.

use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::fusion::Fusion;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorData};
use burn::tensor::{DType, Device, Gradients, Tensor, activation::silu};
use burn_cubecl::{CubeBackend, CubeDevice};
use diff_flash_attn::burn::{AttentionOps, AttentionTrainingOps, Maybe, composed, diff_attention};
use diff_flash_attn::{Mask, Options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cases::{NORM, Source, cube, difference, values};

fn options() -> Options {
    Options::default()
        .with_mask(Mask::Causal)
        .with_norm(Some(NORM))
}

/// Inputs of the operation: four query heads on two of keys, a weight, λ of each token and head.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Of a query; a value has twice as many.
    pub(crate) dim: usize,
    /// Of query, key and value.
    pub(crate) dtype: DType,
}

const SINGLE: Sample = Sample {
    dim: 16,
    dtype: DType::F32,
};

impl Sample {
    /// query, key, value, λ, γ.
    fn data(self) -> [TensorData; 5] {
        let (d, dv) = (self.dim, 2 * self.dim);
        // Maps that differ and a λ well below 1: gradients that nearly cancel would say nothing about the arithmetic.
        [
            data(&[1, 4, 2, 11, d], 2.0, 1),
            data(&[1, 2, 2, 11, d], 2.0, 2),
            data(&[1, 2, 11, dv], 1.0, 3),
            data(&[1, 4, 11], 0.5, 4),
            data(&[dv], 1.0, 5),
        ]
    }

    /// What the output is multiplied with for the loss.
    fn weights(self) -> TensorData {
        data(&[1, 4, 11, 2 * self.dim], 1.0, 6)
    }

    /// As tensors; λ and γ are always single.
    fn inputs<B: Backend>(self, device: &B::Device) -> [FloatTensor<B>; 5] {
        let dtypes = [self.dtype, self.dtype, self.dtype, DType::F32, DType::F32];
        let mut dtypes = dtypes.into_iter();
        self.data().map(|data| {
            let dtype = dtypes.next().expect("one each");
            B::float_from_data(data.convert_dtype(dtype), device)
        })
    }

    pub(crate) fn output<B: AttentionOps>(self, device: &B::Device) -> Vec<f64> {
        let [query, key, value, lambda, gamma] = self.inputs::<B>(device);
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

    /// Output and gradients of its weighted sum.
    pub(crate) fn gradients<B: AttentionOps + AttentionTrainingOps, C: CheckpointStrategy>(
        self,
        device: &B::Device,
    ) -> Vec<Vec<f64>> {
        type Diff<B, C> = Autodiff<B, C>;
        let leaves = self.inputs::<Diff<B, C>>(device);
        let leaves = leaves.map(|tensor| tensor.require_grad());
        let [query, key, value, lambda, gamma] = leaves.clone();
        let (lambda, gamma) = (Maybe::Given(lambda), Maybe::Given(gamma));
        let output = Diff::<B, C>::flash_attention(query, key, value, lambda, gamma, options());
        let mut results = vec![read::<Diff<B, C>>(output.clone())];
        let weights = self.weights().convert_dtype(self.dtype);
        let weights = Diff::<B, C>::float_from_data(weights, device);
        let loss = Diff::<B, C>::float_mul(output, weights);
        let gradients = Diff::<B, C>::backward(Diff::<B, C>::float_sum(loss));
        for leaf in &leaves {
            results.push(read::<B>(Diff::<B, C>::grad(leaf, &gradients).unwrap()));
        }
        results
    }
}

impl Sample {
    /// What [`gradients`](Self::gradients) are in double precision, by the composed form.
    pub(crate) fn exact(self) -> Vec<Vec<f64>> {
        fn leaf<const D: usize>(data: TensorData) -> Tensor<D> {
            Tensor::from_data(data, (&Device::flex().autodiff(), DType::F64)).require_grad()
        }
        fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f64> {
            values(leaf.grad(gradients).unwrap())
        }
        let [query, key, value, lambda, gamma] = self.data();
        let (query, key) = (leaf::<5>(query), leaf::<5>(key));
        let (value, lambda, gamma) = (leaf::<4>(value), leaf::<3>(lambda), leaf::<1>(gamma));
        let output = composed::diff_attention(
            query.clone(),
            key.clone(),
            value.clone(),
            lambda.clone(),
            Some(gamma.clone()),
            &options(),
        );
        let weights = Tensor::from_data(self.weights(), (&Device::flex(), DType::F64));
        let gradients = (output.clone() * weights).sum().backward();
        vec![
            values(output),
            gradient(&query, &gradients),
            gradient(&key, &gradients),
            gradient(&value, &gradients),
            gradient(&lambda, &gradients),
            gradient(&gamma, &gradients),
        ]
    }
}

/// Random values within ±`most`.
fn data(shape: &[usize], most: f32, seed: u64) -> TensorData {
    let mut random = StdRng::seed_from_u64(seed);
    let len: usize = shape.iter().product();
    let values: Vec<f32> = (0..len).map(|_| random.random_range(-most..most)).collect();
    TensorData::new(values, shape)
}

fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64> {
    let data = pollster::block_on(B::float_into_data(tensor)).unwrap();
    data.convert_dtype(DType::F64).try_to_vec().unwrap()
}

#[test]
fn every_backend_gives_the_same_bits() {
    let device = CubeDevice::Wgpu(Default::default());
    let plain = SINGLE.output::<CubeBackend>(&device);
    assert!(plain.iter().any(|x| x.abs() > 0.1), "{plain:?}");
    assert_eq!(SINGLE.output::<Fusion<CubeBackend>>(&device), plain);

    let expected = SINGLE.gradients::<CubeBackend, NoCheckpointing>(&device);
    assert_eq!(expected[0], plain);
    assert_eq!(expected.len(), 6);
    for gradient in &expected[1..] {
        assert!(gradient.iter().any(|x| *x != 0.0) && gradient.iter().all(|x| x.is_finite()));
    }
    assert_eq!(
        SINGLE.gradients::<CubeBackend, BalancedCheckpointing>(&device),
        expected
    );
    let fused = SINGLE.gradients::<Fusion<CubeBackend>, NoCheckpointing>(&device);
    assert_eq!(fused, expected);
    let fused = SINGLE.gradients::<Fusion<CubeBackend>, BalancedCheckpointing>(&device);
    assert_eq!(fused, expected);
}

#[test]
fn untracked_inputs_on_an_autodiff_backend_need_nothing_saved() {
    let device = CubeDevice::Wgpu(Default::default());
    assert_eq!(
        SINGLE.output::<Autodiff<CubeBackend>>(&device),
        SINGLE.output::<CubeBackend>(&device)
    );
}

/// Inputs that Burn recomputes: cheap operations before the attention, and after it.
#[test]
pub(crate) fn checkpointing_recomputes_what_comes_before() {
    let run = |device| {
        let mut source = Source::new(DType::F32, &device);
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
    let mut source = Source::new(DType::F32, &cube().autodiff());
    let query = source.tensor([1, 2, 2, 9, 16]);
    let key = source.constant([1, 2, 2, 9, 16]);
    let (value, lambda) = (source.constant([1, 2, 9, 32]), source.constant([1]));
    let output = diff_attention(query.clone(), key.clone(), value, lambda, None, &options());
    let gradients = output.sum().backward();
    assert!(query.grad(&gradients).is_some() && key.grad(&gradients).is_none());
}
