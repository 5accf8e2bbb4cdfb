//! Audits the library's kernels.
fn main() {}
