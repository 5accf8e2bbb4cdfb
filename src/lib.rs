//! Fused differential flash attention, forward and backward, for any GPU, in [CubeCL].
//!
//! With queries, keys and values `Q_m`, `K_m` (two maps m = 1, 2) and `V` of a head,
//!
//! ```text
//! S_m = scale · Q_m K_mᵀ (+ mask)        P_m = softmax(S_m)        O = (P_1 − λ P_2) V
//! Y   = γ ⊙ O · rsqrt(mean(O²) + eps) · (1 − λ_init)                with a norm, over the value dimension
//! ```
//!
//! (Differential Transformer, arXiv 2410.05258). Two online softmaxes walk one loop over the keys; a tile of keys and
//! values is loaded once for both maps, and no N×N matrix exists anywhere. The gradient of O, dO, gives
//!
//! ```text
//! dP = dO Vᵀ                              δ_m = rowsum(dO ⊙ O_m)             dλ = −Σ δ_2
//! dS_1 = P_1 ⊙ (dP − δ_1)                 dS_2 = −λ P_2 ⊙ (dP − δ_2)
//! dQ_m = scale · dS_m K_m                 dK_m = scale · dS_mᵀ Q_m           dV = (P_1 − λ P_2)ᵀ dO
//! ```
//!
//! with `dP` and `dV` computed once for both maps. With one map it is standard attention, from the same kernels.
//!
//! ```
//! use diff_flash_attn::{DType, Inputs, Mask, Norm, Options, Tensor, backward, device, forward, lambda};
//!
//! # fn main() -> Result<(), diff_flash_attn::Error> {
//! let client = device::default_client()?;
//! let (batch, seq, heads, dim) = (1, 100, 4, 32);
//! let tensor = |shape: &[usize], step: f32| {
//!     let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin()).collect();
//!     Tensor::from_f32(&client, DType::F32, shape, &values)
//! };
//! let query = tensor(&[batch, seq, heads, 2, dim], 0.37)?; // two maps a head
//! let key = tensor(&[batch, seq, heads, 2, dim], 0.73)?;
//! let value = tensor(&[batch, seq, heads, 2 * dim], 0.11)?;
//! let lambda_init = lambda::lambda_init(0);
//! let lambda = Tensor::from_f32(&client, DType::F32, &[1], &[lambda_init])?;
//!
//! let inputs = Inputs::differential(query, key, value, lambda);
//! let norm = Norm { eps: 1e-5, lambda_init };
//! let options = Options::default().with_mask(Mask::Causal).with_norm(norm).with_save_for_backward(true);
//! let result = forward(&client, &inputs, &options)?;
//!
//! let grad_output = tensor(&[batch, seq, heads, 2 * dim], 0.05)?;
//! let saved = result.saved.expect("asked for above");
//! let gradients = backward(&client, &inputs, &saved, &grad_output, &options)?;
//! println!("dλ = {:?}", gradients.lambda.expect("differential").to_f32(&client)?);
//! # Ok(())
//! # }
//! ```
//!
//! - [`forward`], [`backward`] and their `_into` forms take a client, [`Inputs`] and [`Options`]. [`plan_forward`] and
//!   [`plan_backward`] say what they will launch; a [`Plan`] can be kept and run again.
//! - [`Tensor`] is a CubeCL buffer with strides: every published layout is read where it lies.
//! - [`reference`](mod@reference) is the same in `f64` on the CPU, [`tuning`] what a kernel launch can be told.
#![cfg_attr(
    feature = "burn",
    doc = "- [`burn`](mod@burn) is the operation with its gradients, and modules, for Burn."
)]
//!
//! [CubeCL]: https://docs.rs/cubecl
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attention;
#[cfg(feature = "burn")]
pub mod burn;
pub mod device;
mod dtype;
pub mod error;
mod kernels;
pub mod lambda;
mod layout;
mod math;
mod plan;
pub mod problem;
pub mod reference;
pub mod tensor;
pub mod tuning;

pub use attention::{
    Forward, Gradients, Inputs, Options, Saved, backward, backward_into, forward, forward_into,
    plan_backward, plan_backward_into, plan_forward, plan_forward_into,
};
pub use cubecl::prelude::Client;
pub use dtype::DType;
pub use error::{Error, Result};
pub use kernels::Tuning;
pub use plan::{Bindings, Description, Operand, Plan, Refusal};
pub use problem::{Direction, Mask, Norm, Problem};
pub use tensor::Tensor;

#[cfg(all(doctest, feature = "burn"))]
#[doc = include_str!("../README.md")]
struct Readme;
