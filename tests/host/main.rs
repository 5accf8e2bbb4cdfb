//! What needs no device: the reference, and the rule by which results are judged.

mod reference;
mod tolerance;
