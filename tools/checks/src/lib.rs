//! What the tests of the library share, and the program that checks it on a GPU: random cases, a plain implementation in
//! the same precision, the tolerance that follows from it, and what rounding may cost.

pub mod cases;
pub mod catalogue;
pub mod device;
pub mod plain;
pub mod rounding;
pub mod selection;
pub mod tolerance;

use std::fmt::Display;
use std::io::Write;

/// Says what a test leaves out, and why; on the terminal, though the test passes.
pub fn skipped(reason: impl Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    // Not `eprintln`, which a test program keeps to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED in {test}: {reason}");
}

/// A value with something changed: for settings that can only be made whole.
pub fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
