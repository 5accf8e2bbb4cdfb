//! Problems on Burn tensors, computed by the fused or the composed form on any device.

use burn::tensor::{DType, Device, Tensor, TensorData};
use diff_flash_attn::burn::{composed, diff_attention};
use diff_flash_attn::{Mask, Norm, Options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The device of CubeCL that tests run on.
pub(crate) fn cube() -> Device {
    #[cfg(target_os = "linux")]
    if simulator::has_driver() {
        return Device::cuda(0);
    }
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}

/// Sizes and kind of a problem.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) shared_key: bool,
    pub(crate) value_halves: bool,
    /// Broadcastable to `[B, H, Nq]`.
    pub(crate) lambda: Vec<usize>,
    pub(crate) gamma: bool,
    pub(crate) norm: Option<Norm>,
    pub(crate) mask: Mask,
    pub(crate) scale: Option<f32>,
}

pub(crate) const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.2,
};

impl Default for Case {
    /// The paper's layer: two heads of each, a norm with weight, causal.
    fn default() -> Self {
        Self {
            batch: 2,
            heads: 2,
            kv_heads: 2,
            queries: 13,
            keys: 13,
            dim: 16,
            value_dim: 32,
            shared_key: false,
            value_halves: false,
            lambda: vec![1],
            gamma: true,
            norm: Some(NORM),
            mask: Mask::Causal,
            scale: None,
        }
    }
}

/// Values and gradients, row-major: output, dq, dk, dv, dλ, dγ.
pub(crate) type Computed = Vec<(&'static str, Vec<f64>)>;

/// Query, λ, γ, and what the output is multiplied with for the loss.
type Rest<'a> = (
    &'a Tensor<5>,
    &'a Tensor<3>,
    &'a Option<Tensor<1>>,
    &'a Tensor<4>,
);

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The public function.
    Public,
    /// The composed form.
    Composed,
}

impl Case {
    pub(crate) fn options(&self) -> Options {
        Options::default()
            .with_mask(self.mask)
            .with_scale(self.scale)
            .with_norm(self.norm)
    }

    /// Output and gradients on a device, with tensors of `dtype`.
    pub(crate) fn run(&self, form: Form, device: &Device, dtype: DType) -> Computed {
        let (b, h, hk, n, m) = (
            self.batch,
            self.heads,
            self.kv_heads,
            self.queries,
            self.keys,
        );
        let mut random = Source::new(dtype, &device.clone().autodiff());
        let query = random.tensor([b, h, 2, n, self.dim]);
        let lambda = random.lambda(&self.lambda).require_grad();
        let gamma = self.gamma.then(|| random.tensor([self.value_dim]));
        let weights = random.constant([b, h, n, self.value_dim]);
        let rest = (&query, &lambda, &gamma, &weights);
        if self.shared_key {
            let key = random.tensor([b, hk, m, self.dim]);
            self.with_key(form, &key, rest, &mut random)
        } else {
            let key = random.tensor([b, hk, 2, m, self.dim]);
            self.with_key(form, &key, rest, &mut random)
        }
    }

    fn with_key<const K: usize>(
        &self,
        form: Form,
        key: &Tensor<K>,
        rest: Rest,
        random: &mut Source,
    ) -> Computed {
        let (b, hk, m) = (self.batch, self.kv_heads, self.keys);
        if self.value_halves {
            let value = random.tensor([b, hk, 2, m, self.value_dim / 2]);
            self.finish(form, key, &value, rest)
        } else {
            let value = random.tensor([b, hk, m, self.value_dim]);
            self.finish(form, key, &value, rest)
        }
    }

    fn finish<const K: usize, const V: usize>(
        &self,
        form: Form,
        key: &Tensor<K>,
        value: &Tensor<V>,
        (query, lambda, gamma, weights): Rest,
    ) -> Computed {
        let function = match form {
            Form::Public => diff_attention::<K, V, 3>,
            Form::Composed => composed::diff_attention::<K, V, 3>,
        };
        let output = function(
            query.clone(),
            key.clone(),
            value.clone(),
            lambda.clone(),
            gamma.clone(),
            &self.options(),
        );
        let loss = (output.clone() * weights.clone()).sum();
        let gradients = loss.backward();
        let mut computed = vec![
            ("output", values(output)),
            ("dq", values(query.grad(&gradients).unwrap())),
            ("dk", values(key.grad(&gradients).unwrap())),
            ("dv", values(value.grad(&gradients).unwrap())),
            ("dlambda", values(lambda.grad(&gradients).unwrap())),
        ];
        if let Some(gamma) = gamma {
            computed.push(("dgamma", values(gamma.grad(&gradients).unwrap())));
        }
        computed
    }
}

/// Row-major values.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().unwrap()
}

/// Fills tensors with the same numbers on every device.
pub(crate) struct Source {
    random: StdRng,
    dtype: DType,
    device: Device,
}

impl Source {
    pub(crate) fn new(dtype: DType, device: &Device) -> Self {
        Self {
            random: StdRng::seed_from_u64(7),
            dtype,
            device: device.clone(),
        }
    }

    /// A constant.
    pub(crate) fn constant<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let len = shape.iter().product();
        // Numbers that every storage type has.
        let mut number = || self.random.random_range(-1024..=1024) as f32 / 1024.0;
        let values: Vec<f32> = (0..len).map(|_| number()).collect();
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }

    /// A tensor that wants a gradient.
    pub(crate) fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        self.constant(shape).require_grad()
    }

    /// λ with the axes `[B, H, Nq]`.
    pub(crate) fn lambda(&mut self, shape: &[usize]) -> Tensor<3> {
        let mut axes = [1; 3];
        axes[3 - shape.len()..].copy_from_slice(shape);
        self.constant(axes)
    }
}

/// The largest difference, relative to the root mean square of what is expected.
pub(crate) fn difference(ours: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let square: f64 = expected.iter().map(|x| x * x).sum();
    let scale = (square / expected.len() as f64).sqrt().max(1e-30);
    let differences = ours.iter().zip(expected).map(|(x, y)| (x - y).abs());
    // `max` would pass over a NaN.
    differences.fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most }) / scale
}

/// ‖ours − expected‖ / ‖expected‖.
pub(crate) fn distance(ours: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let differences = &mut ours.iter().zip(expected).map(|(x, y)| x - y);
    norm(differences) / norm(&mut expected.iter().copied())
}
