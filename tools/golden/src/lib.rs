//! Golden cases: what another implementation of differential attention computed, and how far from it this one is.
//!
//! A case is one safetensors file: the inputs of the attention itself (after projections and rotary embedding), what
//! came out, and, for the backward pass, the gradient that went in and those that came out. Any floating-point type.
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `q`, `dq` | official, v2: `[B, Nq, H, 2, d]`; diffllama: `[B, Nq, 2, H, d]` | the pair axis is the 2 |
//! | `k`, `dk` | official: `[B, Nk, Hk, 2, d]`; diffllama: `[B, Nk, 2, Hk, d]`; v2: `[B, Nk, Hk, d]` | v2: both maps share the key |
//! | `v`, `dv` | official: `[B, Nk, Hk, 2, dv/2]`; diffllama: `[B, Nk, 2, Hk, dv/2]`; any: `[B, Nk, Hk, dv]` | |
//! | `lambda_q1`, `lambda_k1`, `lambda_q2`, `lambda_k2`, and each with `d` before its name | `[d]` | λ = exp(q1·k1) − exp(q2·k2) + `lambda_init` |
//! | `lam_logit`, `dlam_logit` | broadcastable to `[B, Nq, H]` | instead of the vectors: λ = sigmoid(logit) |
//! | `gamma`, `dgamma` | `[dv]` | optional weight of the norm |
//! | `y`, `dy` | `[B, Nq, H, dv]` | the output, after the norm and (1 − `lambda_init`), and its gradient |
//!
//! The file's metadata, all strings:
//! - `causal`: `true` or `false`; bottom-right aligned where Nq ≠ Nk.
//! - `eps`: that of the norm; a file without it has no norm.
//! - `lambda_init`: needed with the four vectors; 0 where it is missing with a logit.
//! - `layout`: `official`, `diffllama` or `v2`. Where it is missing, `source` is read as one of these names if it is
//!   one. Where that is no help either, the layout is the one that fits the shapes; official and diffllama both fit
//!   when H = Hk = 2, and then a file with `gamma` is official, one without is diffllama.
//!
//! What a file holds of `y`, `dq`, `dk`, `dv`, `dgamma`, `dlambda_q1` … `dlambda_k2` and `dlam_logit` is compared; `dy`
//! is needed for all but the first. Scores are scaled by 1/√d.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! for file in golden::find("dumps".as_ref())? {
//!     let case = golden::Case::load(&file)?;
//!     for row in golden::check(&case, &mut golden::Reference)? {
//!         println!("{} {}: {:.1e}", row.case, row.tensor, row.relative);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod case;
mod compare;
mod device;
mod file;
mod layout;
mod makers;
mod run;

pub use case::{Case, Expected, Lambda, Vectors};
pub use compare::{Row, check, compare};
pub use device::Device;
pub use file::find;
pub use layout::{Layout, Operand};
pub use makers::Makers;
pub use run::{Computed, ComputedGradients, Reference, Rounded, Runner};
