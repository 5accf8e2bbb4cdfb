#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod alu;
mod decode;
mod descriptor;
mod device;
mod error;
mod exec;
mod fragments;
mod ir;
mod launch;
mod mem;
mod module;
mod ptx;
mod reduction;
mod target;
mod tensor_map;
mod ty;

pub use device::{Device, Element};
pub use error::{Error, Place};
pub use launch::{Arg, Check, Launch, MapId, Mode, Schedule, Stats};
pub use mem::Buffer;
pub use module::Module;
pub use tensor_map::{Swizzle, TensorMap};
pub use ty::Ty;
