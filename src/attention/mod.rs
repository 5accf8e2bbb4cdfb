//! The public functions: check the tensors, plan, run.

mod backward;
mod check;
mod forward;
mod gradients;
mod inputs;
mod options;
mod saved;

#[cfg(feature = "burn")]
pub(crate) use backward::empty_gradients;
pub use backward::{backward, backward_into, plan_backward, plan_backward_into};
pub(crate) use check::{check_device, check_last_axis, check_size, check_type};
#[cfg(feature = "burn")]
pub(crate) use forward::empty_outputs;
pub use forward::{Forward, forward, forward_into, plan_forward, plan_forward_into};
pub use gradients::Gradients;
pub use inputs::Inputs;
pub use options::Options;
pub use saved::Saved;
