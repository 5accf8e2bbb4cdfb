//! What a call is given, and the check that turns it into a [`Problem`].

use super::axes::{Axes, AxisStrides};
use super::check::{check_head_dim, check_row_major, check_type};
use super::options::Options;
use crate::error::{Error, Result};
use crate::problem::{Norm, Problem};
use crate::tensor::{DType, Tensor, elements};

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

    /// Sets the weight of the norm.
    pub fn with_gamma(mut self, gamma: Tensor) -> Self {
        self.gamma = Some(gamma);
        self
    }

    /// Checks the tensors against each other and the options, and names the problem they pose.
    ///
    /// # Errors
    /// Whatever is wrong with them, named as in [`Error`]'s variants.
    pub fn problem(&self, options: &Options) -> Result<Problem> {
        Ok(self.check(options)?.problem)
    }

    pub(crate) fn check(&self, options: &Options) -> Result<Checked> {
        let maps = if self.lambda.is_some() { 2 } else { 1 };
        let query = self.query_axes(maps)?;
        let key = self.key_axes(maps, &query)?;
        let value = self.value_axes(&key)?;
        let dtype = self.query.dtype();
        for (name, tensor) in [("key", &self.key), ("value", &self.value)] {
            check_type(name, tensor, dtype)?;
        }
        if query.heads % key.heads != 0 {
            return Err(Error::HeadGroup {
                heads: query.heads,
                kv_heads: key.heads,
            });
        }
        let problem = Problem {
            batch: query.batch,
            query_len: query.len,
            key_len: key.len,
            heads: query.heads,
            kv_heads: key.heads,
            head_dim: query.dim,
            value_dim: value.dim * value.pairs,
            maps,
            shared_key: maps == 2 && (key.pairs == 1 || key.strides.pair == 0),
            mask: options.mask,
            scale: options.scale.unwrap_or(1.0 / (query.dim as f32).sqrt()),
            dtype,
            norm: options.norm,
        };
        check_numbers(&problem)?;
        check_sizes(&problem)?;
        let lambda = self.lambda_axes(&problem)?;
        self.check_gamma(&problem)?;
        Ok(Checked {
            problem,
            query,
            key,
            value,
            lambda,
        })
    }

    fn query_axes(&self, maps: usize) -> Result<Axes> {
        let expected = if maps == 2 {
            "[B, Nq, H, 2, d]"
        } else {
            "[B, Nq, H, d]"
        };
        let axes = Axes::of("query", &self.query, &[3 + maps], expected)?;
        axes.expect("query", "pair", axes.pairs, maps)?;
        check_head_dim("query", axes.dim)?;
        Ok(axes)
    }

    fn key_axes(&self, maps: usize, query: &Axes) -> Result<Axes> {
        let (ranks, expected) = match maps {
            2 => (
                &[4, 5][..],
                "[B, Nk, Hk, 2, d], or [B, Nk, Hk, d] if shared",
            ),
            _ => (&[4][..], "[B, Nk, Hk, d]"),
        };
        let axes = Axes::of("key", &self.key, ranks, expected)?;
        axes.expect("key", "batch", axes.batch, query.batch)?;
        axes.expect("key", "dim", axes.dim, query.dim)?;
        if axes.pairs != 1 {
            axes.expect("key", "pair", axes.pairs, maps)?;
        }
        Ok(axes)
    }

    fn value_axes(&self, key: &Axes) -> Result<Axes> {
        let expected = "[B, Nk, Hk, dv] or [B, Nk, Hk, 2, dv/2]";
        let mut axes = Axes::of("value", &self.value, &[4, 5], expected)?;
        axes.expect("value", "batch", axes.batch, key.batch)?;
        axes.expect("value", "seq", axes.len, key.len)?;
        axes.expect("value", "head", axes.heads, key.heads)?;
        if self.value.shape().len() == 5 {
            axes.expect("value", "half", axes.pairs, 2)?;
        } else {
            axes.strides.pair = axes.dim / 2;
        }
        check_head_dim("value", axes.dim * axes.pairs)?;
        Ok(axes)
    }

    /// Strides of λ over `[B, Nq, H]`, 0 where it is broadcast.
    fn lambda_axes(&self, problem: &Problem) -> Result<AxisStrides> {
        let Some(lambda) = &self.lambda else {
            return Ok(AxisStrides::default());
        };
        check_type("lambda", lambda, DType::F32)?;
        lambda.check_bounds("lambda")?;
        if lambda.shape().len() > 3 {
            let (tensor, got) = ("lambda", lambda.shape().len());
            return Err(Error::Rank {
                tensor,
                got,
                expected: "at most [B, Nq, H]",
            });
        }
        let mut strides = [0; 3];
        let sizes = [problem.batch, problem.query_len, problem.heads];
        let skipped = 3 - lambda.shape().len();
        for (i, (&got, &stride)) in lambda.shape().iter().zip(lambda.strides()).enumerate() {
            let (axis, expected) = (["batch", "seq", "head"][skipped + i], sizes[skipped + i]);
            if got != 1 && got != expected {
                let shape = lambda.shape().to_vec();
                return Err(Error::Size {
                    tensor: "lambda",
                    axis,
                    got,
                    expected,
                    shape,
                });
            }
            strides[skipped + i] = if got == 1 { 0 } else { stride };
        }
        let [batch, seq, head] = strides;
        Ok(AxisStrides {
            offset: lambda.offset(),
            batch,
            seq,
            head,
            pair: 0,
        })
    }

    fn check_gamma(&self, problem: &Problem) -> Result<()> {
        let (Some(gamma), tensor) = (&self.gamma, "gamma") else {
            return Ok(());
        };
        if problem.norm.is_none() {
            return Err(Error::Presence {
                tensor,
                problem: "given, but the options have no norm",
            });
        }
        check_type(tensor, gamma, DType::F32)?;
        gamma.check_bounds(tensor)?;
        let [got] = *gamma.shape() else {
            return Err(Error::Rank {
                tensor,
                got: gamma.shape().len(),
                expected: "[dv]",
            });
        };
        let expected = problem.value_dim;
        if got != expected {
            return Err(Error::Size {
                tensor,
                axis: "dim",
                got,
                expected,
                shape: vec![got],
            });
        }
        check_row_major(tensor, gamma)
    }
}

/// Inputs that fit together.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub problem: Problem,
    pub query: Axes,
    pub key: Axes,
    pub value: Axes,
    pub lambda: AxisStrides,
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
