//! The functions on Burn tensors: check, then the fused operation where there is one, else the composed form.

use burn::tensor::Tensor;

use super::composed;
use super::fused;
use crate::attention::Options;

/// Differential attention, `(softmax(Q_1 K_1ᵀ) − λ softmax(Q_2 K_2ᵀ)) V`, then the norm that the options ask for:
/// `[B, H, Nq, dv]`.
///
/// - `query` is `[B, H, 2, Nq, d]`, the third axis being the two maps.
/// - `key` is `[B, Hk, 2, Nk, d]`, or `[B, Hk, Nk, d]` where both maps share it. H is a multiple of Hk.
/// - `value` is `[B, Hk, Nk, dv]`, or `[B, Hk, 2, Nk, dv/2]` if its halves lie apart.
/// - `lambda` broadcasts to `[B, H, Nq]`: `[1]` is one number, `[H, 1]` one a head.
/// - `gamma` is the norm's weight, `[dv]`.
///
/// On a device of CubeCL (wgpu, CUDA, …) these are the fused kernels of this crate, with memory linear in the sequence
/// length and no copy of a query, key or value whose last axis is contiguous: permuted views are read where they lie
/// (only a key expanded to two maps is written out; leave its axis out instead). On other devices it is [`composed::diff_attention`]. All five tensors get gradients on an autodiff device.
/// `options.save_for_backward` is ignored: what the backward pass needs is kept when a gradient is tracked.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use diff_flash_attn::{Mask, Options, burn::diff_attention};
///
/// let device = Device::default().autodiff();
/// let random = |shape: [usize; 5]| Tensor::<5>::random(shape, Distribution::Default, &device).require_grad();
/// let (query, key) = (random([1, 4, 2, 10, 16]), random([1, 2, 2, 10, 16])); // [B, H, 2, N, d]
/// let value = random([1, 2, 2, 10, 16]); // halves of dv = 32
/// let lambda = Tensor::<1>::from_floats([0.2], &device).require_grad();
///
/// let options = Options::default().with_mask(Mask::Causal);
/// let output = diff_attention(query.clone(), key, value, lambda.clone(), None, &options);
/// assert_eq!(output.dims(), [1, 4, 10, 32]);
/// let gradients = output.sum().backward();
/// assert_eq!(query.grad(&gradients).unwrap().dims(), [1, 4, 2, 10, 16]);
/// println!("dλ = {}", lambda.grad(&gradients).unwrap());
/// ```
///
/// # Panics
/// As Burn's own operations do, with the message of the [`Error`](crate::Error) that the functions of this crate
/// return: shapes that do not fit, a storage type or size that the device cannot do.
#[track_caller]
pub fn diff_attention<const K: usize, const V: usize, const L: usize>(
    query: Tensor<5>,
    key: Tensor<K>,
    value: Tensor<V>,
    lambda: Tensor<L>,
    gamma: Option<Tensor<1>>,
    options: &Options,
) -> Tensor<4> {
    let lambda = composed::broadcastable(lambda);
    if let Some(client) = fused::client(query.device().as_dispatch()) {
        return fused::attention(&client, query, key, value, Some(lambda), gamma, options);
    }
    composed::diff_attention(query, key, value, lambda, gamma, options)
}

/// Standard attention, `softmax(Q Kᵀ) V`, from the same kernels: query `[B, H, Nq, d]`, key `[B, Hk, Nk, d]`, value
/// `[B, Hk, Nk, dv]`.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use diff_flash_attn::{Options, burn::attention};
///
/// let random = || Tensor::<4>::random([1, 2, 10, 16], Distribution::Default, &Device::default());
/// let output = attention(random(), random(), random(), &Options::default());
/// assert_eq!(output.dims(), [1, 2, 10, 16]);
/// println!("{output}");
/// ```
///
/// # Panics
/// As [`diff_attention`].
#[track_caller]
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: &Options,
) -> Tensor<4> {
    if let Some(client) = fused::client(query.device().as_dispatch()) {
        return fused::attention(&client, query, key, value, None, None, options);
    }
    composed::attention(query, key, value, options)
}
