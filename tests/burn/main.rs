//! Differential attention in Burn: the operation, the modules, checkpoints of Hugging Face, memory.

mod backends;
mod cases;
mod golden_cases;
mod memory;
mod modules;
mod operation;
mod pretrained;
mod refusals;
