//! Differential attention in Burn: the operation, the modules, checkpoints of Hugging Face, memory.

mod backends;
mod cases;
#[cfg(target_os = "linux")]
mod cuda;
mod golden_cases;
mod half_attention;
mod memory;
mod modules;
mod operation;
mod parameters;
mod pretrained;
mod refusals;
