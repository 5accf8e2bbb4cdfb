//! The backward kernels: the query's gradient, and those of key and value.

pub(crate) mod key_value;
pub(crate) mod query;
pub(crate) mod shape;
pub(crate) mod step;
