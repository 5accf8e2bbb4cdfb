//! The public functions: check the problem, choose settings, launch, return.

mod backward;
pub(crate) mod check;
mod forward;
mod inputs;
pub(crate) mod launch;
mod reduce;

pub use backward::{Gradients, backward, backward_into};
pub use forward::{Forward, Saved, forward, forward_into};
pub use inputs::{Inputs, Options, Tuning};
