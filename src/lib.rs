//! Differential flash attention.

mod attention;
pub mod device;
pub mod error;
mod kernels;
pub mod lambda;
mod math;
pub mod problem;
pub mod reference;
pub mod tensor;
pub mod tuning;

pub use attention::{
    Forward, Gradients, Inputs, Options, Saved, Tuning, backward, backward_into, forward,
    forward_into,
};
pub use error::{Error, Result};
pub use problem::{Direction, Mask, Norm, Problem};
pub use tensor::{DType, Tensor};
