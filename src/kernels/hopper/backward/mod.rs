//! Backward: gradients of key and value by [`keys`], of query by [`queries`], from the statistics that [`statistics`] lays out.
//!
//! Both kernels are shaped like the forward: a warpgroup that loads, two that compute and share nothing but what is
//! loaded, both maps in each. Scores come with the resident rows as rows, so that weights and their gradients are left
//! operands as they stand. Nothing is added up but in registers, in one order.

pub(super) mod dims;
pub(super) mod keys;
mod load;
mod probabilities;
pub(super) mod queries;
mod statistics;
pub(super) mod step;
