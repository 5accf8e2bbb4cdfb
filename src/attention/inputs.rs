//! What a call is given, and the check that turns it into a [`Problem`].

use cubecl::prelude::Client;

use super::check::{
    check_device, check_head_dim, check_row_major, check_rows, check_size, check_type,
};
use super::options::Options;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::elements;
use crate::plan::{AxisStrides, Bindings, Operand, View};
use crate::problem::{Norm, Problem};
use crate::tensor::Tensor;

/// The tensors that attention reads. Query, key and value share one storage type; λ and γ are `f32`.
///
/// Any strides will do, as long as the last axis is contiguous: [`Tensor::permute`] turns the layout of a framework into
/// the axis order given here without a copy.
///
/// ```
/// use diff_flash_attn::{DType, Inputs, Tensor, device};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let zeros = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![0.0; shape.iter().product()]);
/// // Hugging Face DiffLlama keeps heads i and i + H of [B, 2H, N, d] for the two maps: [B, 2, H, N, d].
/// let query = zeros(&[1, 2, 4, 10, 16])?.permute(&[0, 3, 2, 1, 4])?;
/// let key = zeros(&[1, 2, 2, 10, 16])?.permute(&[0, 3, 2, 1, 4])?;
/// let value = zeros(&[1, 2, 2, 10, 16])?.permute(&[0, 3, 2, 1, 4])?;
/// let lambda = Tensor::from_f32(&client, DType::F32, &[1], &[0.2])?;
/// let inputs = Inputs::differential(query, key, value, lambda);
/// # let _ = inputs;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inputs {
    /// `[B, Nq, H, 2, d]`, the pair axis being the two maps; for standard attention `[B, Nq, H, d]`.
    pub query: Tensor,
    /// `[B, Nk, Hk, 2, d]`; where both maps share the key, the pair axis has size 1 or stride 0, or is left out.
    /// For standard attention `[B, Nk, Hk, d]`.
    pub key: Tensor,
    /// `[B, Nk, Hk, dv]`, or `[B, Nk, Hk, 2, dv/2]` if its halves lie apart.
    pub value: Tensor,
    /// λ in `f32`, broadcastable to `[B, Nq, H]` by NumPy's rules: `[]` or `[1]` one number, `[H]` per head,
    /// `[B, Nq, H]` per token and head. `None` makes it standard attention.
    pub lambda: Option<Tensor>,
    /// Weight of the norm in `f32`, `[dv]`. `None` is a norm without weight.
    pub gamma: Option<Tensor>,
}

impl Inputs {
    /// Differential attention, `(softmax(Q_1 K_1ᵀ) − λ softmax(Q_2 K_2ᵀ)) V`.
    pub fn differential(query: Tensor, key: Tensor, value: Tensor, lambda: Tensor) -> Self {
        Self {
            query,
            key,
            value,
            lambda: Some(lambda),
            gamma: None,
        }
    }

    /// Standard attention, `softmax(Q Kᵀ) V`.
    pub fn standard(query: Tensor, key: Tensor, value: Tensor) -> Self {
        Self {
            query,
            key,
            value,
            lambda: None,
            gamma: None,
        }
    }

    /// Sets λ, which makes it differential attention, or none.
    pub fn with_lambda(mut self, lambda: impl Into<Option<Tensor>>) -> Self {
        self.lambda = lambda.into();
        self
    }

    /// Sets the weight of the norm, or none.
    pub fn with_gamma(mut self, gamma: impl Into<Option<Tensor>>) -> Self {
        self.gamma = gamma.into();
        self
    }

    /// Checks the tensors against each other and the options, and names the problem they pose.
    ///
    /// # Errors
    /// Whatever is wrong with them, named as in [`Error`]'s variants.
    pub fn problem(&self, options: &Options) -> Result<Problem> {
        Ok(self.check(options)?.problem)
    }

    /// Refuses inputs of another device.
    pub(super) fn check_device(&self, client: &Client) -> Result<()> {
        let mut named = self.named().into_iter();
        named.try_for_each(|(operand, tensor)| match tensor {
            Some(tensor) => check_device(operand, client, tensor),
            None => Ok(()),
        })
    }

    /// The tensors by name.
    fn named(&self) -> [(Operand, Option<&Tensor>); 5] {
        [
            (Operand::Query, Some(&self.query)),
            (Operand::Key, Some(&self.key)),
            (Operand::Value, Some(&self.value)),
            (Operand::Lambda, self.lambda.as_ref()),
            (Operand::Gamma, self.gamma.as_ref()),
        ]
    }

    /// The tensors as operands of a plan.
    pub(super) fn bindings(&self) -> Bindings<'_> {
        let named = self.named().into_iter();
        named.fold(Bindings::new(), |bindings, (operand, tensor)| {
            bindings.with_optional(operand, tensor)
        })
    }

    pub(super) fn check(&self, options: &Options) -> Result<Checked> {
        let maps = if self.lambda.is_some() { 2 } else { 1 };
        let query = self.check_query(maps)?;
        let key = self.check_key(maps, &query)?;
        let value = self.check_value(&key)?;
        let dtype = self.query.dtype();
        check_type(Operand::Key, &self.key, dtype)?;
        check_type(Operand::Value, &self.value, dtype)?;
        if query.heads % key.heads != 0 {
            return Err(Error::HeadGroup {
                heads: query.heads,
                kv_heads: key.heads,
            });
        }
        let repeated = self.key.shape().len() == 5 && self.key.strides()[3] == 0;
        let problem = Problem {
            batch: query.batch,
            query_len: query.len,
            key_len: key.len,
            heads: query.heads,
            kv_heads: key.heads,
            head_dim: query.dim,
            value_dim: value.dim * value.pairs,
            maps,
            shared_key: maps == 2 && (key.pairs == 1 || repeated),
            mask: options.mask,
            scale: options.scale.unwrap_or(1.0 / (query.dim as f32).sqrt()),
            dtype,
            norm: options.norm,
        };
        check_numbers(&problem)?;
        check_sizes(&problem)?;
        self.views(problem)
    }

    /// The tensors as kernels address them.
    fn views(&self, problem: Problem) -> Result<Checked> {
        let (lambda, lambda_sizes) = self.lambda_view(&problem)?;
        Ok(Checked {
            query: View::rows(Operand::Query, &self.query)?,
            key: View::rows(Operand::Key, &self.key)?,
            value: value_view(Operand::Value, &self.value)?,
            lambda,
            lambda_sizes,
            gamma: self.gamma_view(&problem)?,
            problem,
        })
    }

    fn check_query(&self, maps: usize) -> Result<Sizes> {
        let expected = if maps == 2 {
            "[B, Nq, H, 2, d]"
        } else {
            "[B, Nq, H, d]"
        };
        let (operand, query) = (Operand::Query, &self.query);
        let sizes = Sizes::of(operand, query, &[3 + maps], expected)?;
        check_size(operand, query, "pair", sizes.pairs, maps)?;
        check_head_dim(operand, sizes.dim)?;
        Ok(sizes)
    }

    fn check_key(&self, maps: usize, query: &Sizes) -> Result<Sizes> {
        let (ranks, expected) = match maps {
            2 => (
                &[4, 5][..],
                "[B, Nk, Hk, 2, d], or [B, Nk, Hk, d] if shared",
            ),
            _ => (&[4][..], "[B, Nk, Hk, d]"),
        };
        let (operand, key) = (Operand::Key, &self.key);
        let sizes = Sizes::of(operand, key, ranks, expected)?;
        check_size(operand, key, "batch", sizes.batch, query.batch)?;
        check_size(operand, key, "dim", sizes.dim, query.dim)?;
        if sizes.pairs != 1 {
            check_size(operand, key, "pair", sizes.pairs, maps)?;
        }
        Ok(sizes)
    }

    fn check_value(&self, key: &Sizes) -> Result<Sizes> {
        let expected = "[B, Nk, Hk, dv] or [B, Nk, Hk, 2, dv/2]";
        let (operand, value) = (Operand::Value, &self.value);
        let sizes = Sizes::of(operand, value, &[4, 5], expected)?;
        check_size(operand, value, "batch", sizes.batch, key.batch)?;
        check_size(operand, value, "seq", sizes.len, key.len)?;
        check_size(operand, value, "head", sizes.heads, key.heads)?;
        if value.shape().len() == 5 {
            check_size(operand, value, "half", sizes.pairs, 2)?;
        }
        check_head_dim(operand, sizes.dim * sizes.pairs)?;
        Ok(sizes)
    }

    /// λ over `[B, Nq, H]`: its strides, 0 where it is broadcast, and its sizes there.
    fn lambda_view(&self, problem: &Problem) -> Result<(Option<View>, [usize; 3])> {
        let (operand, mut sizes) = (Operand::Lambda, [1; 3]);
        let Some(lambda) = &self.lambda else {
            return Ok((None, sizes));
        };
        check_type(operand, lambda, DType::F32)?;
        lambda.check_bounds(operand.name())?;
        let rank = lambda.shape().len();
        if rank > 3 {
            return Err(Error::Rank {
                tensor: operand.name(),
                got: rank,
                expected: "at most [B, Nq, H]",
            });
        }
        let full = [problem.batch, problem.query_len, problem.heads];
        let mut strides = [0; 3];
        let axes = operand.axes(rank).iter().zip(3 - rank..3);
        for (i, (&axis, at)) in axes.enumerate() {
            let got = lambda.shape()[i];
            if got != 1 {
                check_size(operand, lambda, axis, got, full[at])?;
                strides[at] = lambda.strides()[i];
            }
            sizes[at] = got;
        }
        let [batch, seq, head] = strides;
        let strides = AxisStrides {
            offset: lambda.offset(),
            batch,
            seq,
            head,
            pair: 0,
        };
        Ok((Some(View::new(operand, lambda, strides)?), sizes))
    }

    fn gamma_view(&self, problem: &Problem) -> Result<Option<View>> {
        let (Some(gamma), operand) = (&self.gamma, Operand::Gamma) else {
            return Ok(None);
        };
        if problem.norm.is_none() {
            return Err(Error::Presence {
                tensor: operand.name(),
                problem: "given, but the options have no norm",
            });
        }
        check_type(operand, gamma, DType::F32)?;
        gamma.check_bounds(operand.name())?;
        let [got] = *gamma.shape() else {
            return Err(Error::Rank {
                tensor: operand.name(),
                got: gamma.shape().len(),
                expected: operand.expected(1),
            });
        };
        check_size(operand, gamma, "dim", got, problem.value_dim)?;
        check_row_major(operand, gamma)?;
        View::flat(operand, gamma).map(Some)
    }
}

/// A value or its gradient: the pair axis is that of its halves, also where they lie side by side.
pub(super) fn value_view(operand: Operand, value: &Tensor) -> Result<View> {
    let mut strides = AxisStrides::of_rows(value.layout());
    if let [_, _, _, dim] = *value.shape() {
        strides.pair = dim / 2;
    }
    View::new(operand, value, strides)
}

/// Inputs that fit together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    pub problem: Problem,
    pub query: View,
    pub key: View,
    pub value: View,
    pub lambda: Option<View>,
    pub lambda_sizes: [usize; 3],
    pub gamma: Option<View>,
}

/// Sizes of a tensor `[batch, seq, head, pair, dim]`, or without the pair.
struct Sizes {
    batch: usize,
    len: usize,
    heads: usize,
    pairs: usize,
    dim: usize,
}

impl Sizes {
    /// Those of a tensor of one of the given ranks that can be read row by row.
    fn of(
        operand: Operand,
        tensor: &Tensor,
        ranks: &[usize],
        expected: &'static str,
    ) -> Result<Self> {
        let shape = tensor.shape();
        if !ranks.contains(&shape.len()) {
            return Err(Error::Rank {
                tensor: operand.name(),
                got: shape.len(),
                expected,
            });
        }
        check_rows(operand, tensor)?;
        let last = shape.len() - 1;
        Ok(Self {
            batch: shape[0],
            len: shape[1],
            heads: shape[2],
            pairs: if last == 4 { shape[3] } else { 1 },
            dim: shape[last],
        })
    }
}

fn check_numbers(problem: &Problem) -> Result<()> {
    let finite = |name, got: f32, expected, ok: bool| {
        if ok {
            Ok(())
        } else {
            Err(Error::Number {
                name,
                got: got.into(),
                expected,
            })
        }
    };
    finite(
        "scale",
        problem.scale,
        "a finite number",
        problem.scale.is_finite(),
    )?;
    if let Some(Norm { eps, lambda_init }) = problem.norm {
        let ok = eps.is_finite() && eps >= 0.0;
        finite("norm eps", eps, "a finite number, at least 0", ok)?;
        finite(
            "norm lambda_init",
            lambda_init,
            "a finite number",
            lambda_init.is_finite(),
        )?;
    }
    Ok(())
}

/// Refuses what repeated axes of inputs can ask for though no buffer holds it: positions are 32-bit numbers, and so are
/// places in a buffer.
fn check_sizes(problem: &Problem) -> Result<()> {
    let within = |tensor, resource, got: usize, limit: usize| {
        if got <= limit {
            return Ok(());
        }
        Err(Error::TooLarge {
            tensor,
            resource,
            got,
            limit,
        })
    };
    let positions = i32::MAX as usize / 2;
    within("query", "rows", problem.query_len, positions)?;
    within("key", "rows", problem.key_len, positions)?;
    let addresses = u32::MAX as usize;
    for (tensor, shape) in [
        ("query", &problem.query_shape()[..]),
        ("output", &problem.outputs_shape()),
        ("key", &problem.key_shape()),
        ("value", &problem.value_shape()),
    ] {
        within(tensor, "elements", elements(shape), addresses)?;
    }
    Ok(())
}
