//! Plain CubeCL for every runtime: register tiles fed from shared memory.

pub(crate) mod backward_key_value;
pub(crate) mod backward_query;
pub(crate) mod backward_rows;
mod direct;
pub(crate) mod forward;
pub(crate) mod gradient;
pub(crate) mod lambda;
mod product;
mod rows;
mod stage;
mod staged;
pub(crate) mod sum;
pub(crate) mod tile;
