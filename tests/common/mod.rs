//! What the integration tests share: random cases, a plain implementation in the same precision, the tolerance
//! that follows from it, and what rounding may cost.
#![allow(
    dead_code,
    reason = "every test includes the whole module and uses a part of it"
)]

pub(crate) mod cases;
pub(crate) mod device;
pub(crate) mod plain;
pub(crate) mod rounding;
pub(crate) mod selection;
pub(crate) mod tolerance;
