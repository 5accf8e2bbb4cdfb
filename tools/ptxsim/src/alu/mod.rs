//! Arithmetic on the values of single lanes.

pub mod convert;
pub mod double;
pub mod float;
pub mod half_float;
pub mod integer;
pub mod registers;
pub mod round;
pub mod tf32;
