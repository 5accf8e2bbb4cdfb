//! The same operation composed of Burn's own tensor operations: every backend, every float, Burn's own gradients, and
//! memory quadratic in the sequence length.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor};

use super::check::{Operands, must};
use crate::attention::Options;
use crate::error::Error;
use crate::problem::{Mask, Norm};

/// As [`burn::diff_attention`](super::diff_attention), on any backend, with both matrices of probabilities in memory.
/// `f16` and `bf16` are computed in `f32`, and `options.tuning` is ignored.
///
/// # Panics
/// As [`burn::diff_attention`](super::diff_attention).
#[track_caller]
pub fn diff_attention<const K: usize, const V: usize, const L: usize>(
    query: Tensor<5>,
    key: Tensor<K>,
    value: Tensor<V>,
    lambda: Tensor<L>,
    gamma: Option<Tensor<1>>,
    options: &Options,
) -> Tensor<4> {
    let lambda = broadcastable(lambda);
    check(&query, &key, &value, Some(&lambda), gamma.as_ref(), options);
    let dtype = query.dtype();
    let value = widened(joined_halves(value));
    let [batch, heads, _, queries, _] = query.dims();
    let probabilities = probabilities(widened(query), with_maps(widened(key)), options);
    let [signal, noise] = [0, 1].map(|map| {
        let one = probabilities.clone().narrow(2, map, 1);
        one.squeeze_dim::<4>(2)
    });
    let lambda = lambda.cast(value.dtype()).expand([batch, heads, queries]);
    let output = weighted(signal - noise * lambda.unsqueeze_dim::<4>(3), value);
    normalised(output, options.norm, gamma).cast(dtype)
}

/// As [`burn::attention`](super::attention), on any backend.
///
/// # Panics
/// As [`burn::diff_attention`](super::diff_attention).
#[track_caller]
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    options: &Options,
) -> Tensor<4> {
    check(&query, &key, &value, None, None, options);
    let dtype = query.dtype();
    let one_map = |tensor: Tensor<4>| widened(tensor).unsqueeze_dim::<5>(2);
    let probabilities = probabilities(one_map(query), one_map(key), options).squeeze_dim::<4>(2);
    let output = weighted(probabilities, widened(value));
    normalised(output, options.norm, None).cast(dtype)
}

/// λ with the axes `[B, H, Nq]`, of size 1 where it is broadcast.
#[track_caller]
pub(super) fn broadcastable<const L: usize>(lambda: Tensor<L>) -> Tensor<3> {
    if L > 3 {
        let (tensor, got, expected) = ("lambda", L, "at most [B, H, Nq]");
        must::<()>(Err(Error::Rank {
            tensor,
            got,
            expected,
        }));
    }
    let mut shape = [1; 3];
    shape[3 - L..].copy_from_slice(&lambda.dims());
    lambda.reshape(shape)
}

#[track_caller]
fn check<const Q: usize, const K: usize, const V: usize>(
    query: &Tensor<Q>,
    key: &Tensor<K>,
    value: &Tensor<V>,
    lambda: Option<&Tensor<3>>,
    gamma: Option<&Tensor<1>>,
    options: &Options,
) {
    let lambda = lambda.map(|lambda| lambda.clone().into_dispatch());
    let gamma = gamma.map(|gamma| gamma.clone().into_dispatch());
    let operands = Operands {
        query: &query.clone().into_dispatch(),
        key: &key.clone().into_dispatch(),
        value: &value.clone().into_dispatch(),
        lambda: lambda.as_ref(),
        gamma: gamma.as_ref(),
    };
    must(operands.check_shapes(options));
}

/// In the type that sums are made in.
pub(super) fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.cast(DType::F32),
        _ => tensor,
    }
}

/// A key with its axis of maps, of size 1 where it is shared.
fn with_maps<const K: usize>(key: Tensor<K>) -> Tensor<5> {
    let mut shape = [1; 5];
    let dims = key.dims();
    shape[..2].copy_from_slice(&dims[..2]);
    shape[7 - K..].copy_from_slice(&dims[2..]);
    key.reshape(shape)
}

/// A value whose halves lie side by side.
fn joined_halves<const V: usize>(value: Tensor<V>) -> Tensor<4> {
    let [batch, heads, halves, keys, dim] = {
        let dims = value.dims();
        match V {
            5 => [dims[0], dims[1], dims[2], dims[3], dims[4]],
            _ => [dims[0], dims[1], 1, dims[2], dims[3]],
        }
    };
    value
        .reshape([batch, heads, halves, keys, dim])
        .permute([0, 1, 3, 2, 4])
        .reshape([batch, heads, keys, halves * dim])
}

/// `softmax(scale · Q Kᵀ)` under the mask, of every map: `[B, H, maps, Nq, Nk]`. A query that sees no key has none.
fn probabilities(query: Tensor<5>, key: Tensor<5>, options: &Options) -> Tensor<5> {
    let [_, heads, maps, queries, dim] = query.dims();
    let [_, _, _, keys, _] = key.dims();
    let scale = options.scale.unwrap_or(1.0 / (dim as f32).sqrt());
    let key = repeated(key, heads);
    let key = if key.dims()[2] == maps {
        key
    } else {
        key.repeat_dim(2, maps)
    };
    let hidden = hidden(options.mask, queries, keys, &query.device());
    let scores = query.matmul(key.swap_dims(3, 4)) * scale;
    let Some(hidden) = hidden else {
        return softmax(scores, 4);
    };
    let hidden = hidden.unsqueeze::<5>().expand(scores.dims());
    // A finite floor, so that a row without keys is no 0/0; what it then holds is taken away.
    softmax(scores.mask_fill(hidden.clone(), -1e30), 4).mask_fill(hidden, 0.0)
}

/// `P V`.
fn weighted(probabilities: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let heads = probabilities.dims()[1];
    probabilities.matmul(repeated(value, heads))
}

/// Key or value heads, each for its group of query heads.
fn repeated<const D: usize>(tensor: Tensor<D>, heads: usize) -> Tensor<D> {
    let kv_heads = tensor.dims()[1];
    if kv_heads == heads {
        return tensor;
    }
    let group = (heads / kv_heads) as i64;
    let of_query: Vec<i64> = (0..heads as i64).map(|head| head / group).collect();
    let of_query = Tensor::<1, Int>::from_data(of_query.as_slice(), &tensor.device());
    tensor.select(1, of_query)
}

/// Which keys a query does not see, `[Nq, Nk]`; `None` if it sees all.
fn hidden(mask: Mask, queries: usize, keys: usize, device: &Device) -> Option<Tensor<2, Bool>> {
    let (left, right) = mask.sides();
    let positions = |len: usize| Tensor::<1, Int>::arange(0..len as i64, device);
    let shift = keys as i64 - queries as i64;
    let ahead = || {
        let query = positions(queries).unsqueeze_dim::<2>(1) + shift;
        let key = positions(keys).unsqueeze_dim::<2>(0);
        key.expand([queries, keys]) - query.expand([queries, keys])
    };
    let after = right.map(|right| ahead().greater_elem(bound(right)));
    let before = left.map(|left| ahead().lower_elem(-bound(left)));
    match (after, before) {
        (Some(after), Some(before)) => Some(after.bool_or(before)),
        (after, before) => after.or(before),
    }
}

/// A bound that any backend's integers hold.
fn bound(side: usize) -> i64 {
    side.min(i32::MAX as usize) as i64
}

fn normalised(output: Tensor<4>, norm: Option<Norm>, gamma: Option<Tensor<1>>) -> Tensor<4> {
    let Some(norm) = norm else {
        return output;
    };
    let mean_square = output.clone().square().mean_dim(3);
    let dtype = output.dtype();
    // With eps = 0 a row of zeros stays zero.
    let root = (mean_square + norm.eps).clamp_min(1e-30).sqrt();
    let output = output / root * norm.factor();
    match gamma {
        Some(gamma) => output * gamma.cast(dtype).unsqueeze::<4>(),
        None => output,
    }
}
