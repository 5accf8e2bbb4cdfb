//! The public functions: check the problem, choose settings, launch, return.

mod backward;
pub(crate) mod check;
mod forward;
#[cfg(feature = "hopper")]
mod hopper;
mod inputs;
pub(crate) mod launch;
mod reduce;

pub use backward::{Gradients, backward, backward_into};
pub use forward::{Forward, Saved, forward, forward_into, forward_schedule};
pub use inputs::{Inputs, Options, Tuning};
