//! Backward: gradients of query, key and value from the statistics of the rows.

mod gradient;
pub(crate) mod key_value;
pub(crate) mod query;
pub(crate) mod shape;
pub(crate) mod step;
