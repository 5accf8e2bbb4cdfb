//! The steady loops of kernels for tensor cores, in machine code: what they issue, and how busy a model says they keep the tensor
//! cores.

mod class;
mod flow;
mod instruction;
mod item;
mod listing;
mod loads;
mod machine;
mod nvdisasm;
mod path;
mod predict;
mod product;
mod report;
mod scheduler;
mod steady;
mod step;

pub use machine::tensor_cycles;
pub use nvdisasm::Nvdisasm;
pub use predict::Prediction;
pub use report::{ASSUMPTIONS, Report, Row};
pub use steady::{Launch, Steady, steady};
