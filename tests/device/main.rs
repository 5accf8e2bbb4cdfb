//! What computes on a device: one program, which runs on every device at hand.

mod bad_input;
mod determinism;
mod forward_backward;
mod golden;
mod memory;
mod numerics;
mod properties;
mod settings;
