//! What the tests of the library share, and the program that checks it on a GPU: random cases, a plain implementation in
//! the same precision, the tolerance that follows from it, and what rounding may cost.

pub mod cases;
pub mod catalogue;
pub mod device;
pub mod plain;
pub mod rounding;
pub mod selection;
pub mod tolerance;

/// A value with something changed: for settings that can only be made whole.
pub fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
