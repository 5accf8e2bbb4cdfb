//! PTX written by hand, instruction by instruction, through the parser and the interpreter.

mod cluster;
mod common;
mod convert;
mod copies;
mod double;
mod float;
mod integer;
mod memory;
mod pipeline;
mod warp;
mod wgmma;
mod wmma;
