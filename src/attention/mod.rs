//! The public functions: check the problem, choose settings, launch, return.

pub(crate) mod axes;
mod backward;
pub(crate) mod check;
mod forward;
mod gradients;
#[cfg(feature = "hopper")]
mod hopper;
mod inputs;
pub(crate) mod launch;
mod options;
mod outputs;
mod portable;
mod reduce;
mod saved;

pub use backward::{backward, backward_into};
pub use forward::{Forward, forward, forward_into, forward_schedule};
pub use gradients::Gradients;
pub use inputs::Inputs;
pub use options::{Options, Tuning};
pub use saved::Saved;
