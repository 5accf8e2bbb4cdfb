//! Plan first, run afterwards: a call as data, each launch a step, and the one place where they are run.

mod call;
mod draft;
mod family;
mod operand;
mod run;
mod step;
mod tensors;
mod view;

pub(crate) use call::{BackwardCall, ForwardCall};
pub(crate) use draft::Draft;
pub use family::{Family, Pass};
pub use operand::Operand;
pub use run::{Plan, Refusal};
pub use step::Description;
pub(crate) use step::{Bound, Step};
pub use tensors::Bindings;
#[cfg(feature = "burn")]
pub(crate) use tensors::Expected;
pub(crate) use view::{AxisStrides, View, vector_width};
