//! What warps of an NVIDIA GPU do, whichever instruction multiplies for them.
//!
//! [`ptx`] has the instructions' text, [`fragment`] says who holds which element of a product, [`softmax`] works on the
//! elements that a thread holds, [`output`] writes them.

pub(crate) mod fragment;
pub(crate) mod output;
pub(crate) mod ptx;
pub(crate) mod softmax;
