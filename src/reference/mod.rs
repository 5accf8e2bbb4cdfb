//! The same operations in `f64` on the CPU, as close to the formulas as Rust allows.
