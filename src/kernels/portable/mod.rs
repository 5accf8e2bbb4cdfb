//! Plain CubeCL for every runtime: register tiles fed from shared memory.

pub(crate) mod backward;
mod direct;
pub(crate) mod forward;
mod product;
mod rows;
mod stage;
mod staged;
pub(crate) mod tile;
