//! Differential flash attention.
pub mod device;
pub mod error;
pub mod lambda;
pub mod problem;
pub mod reference;
pub mod tensor;

pub use error::{Error, Result};
pub use problem::{Direction, Mask, Norm, Problem};
pub use tensor::{DType, Tensor};
