//! How a call computes.

use crate::problem::{Mask, Norm};
use crate::tuning::{HopperSettings, Schedule, Settings};

/// How to compute: mask, scale, norm, what to keep, settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on the scores; `None` is `1/√d`.
    pub scale: Option<f32>,
    /// Normalisation of the output.
    pub norm: Option<Norm>,
    /// Keep what [`backward`](crate::backward) needs.
    pub save_for_backward: bool,
    /// Settings of the kernels; by default the table's.
    pub tuning: Tuning,
}

/// Settings that override the table's, and the choice of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Which forward kernel; it must be able to. By default the one that has settings here, or else the best that can:
    /// [`forward_schedule`](crate::forward_schedule) tells.
    pub schedule: Option<Schedule>,
    /// Of the portable forward kernel.
    pub forward: Option<Settings>,
    /// Of the forward kernel for compute capability 9.0.
    pub hopper_forward: Option<HopperSettings>,
    /// Of the kernel for the query's gradient.
    pub query_gradient: Option<Settings>,
    /// Of the kernel for the gradients of key and value.
    pub key_value_gradient: Option<Settings>,
}

impl Tuning {
    /// The forward kernel that is asked for, if one is.
    pub(crate) fn asked(&self) -> Option<Schedule> {
        let hopper = self.hopper_forward.map(|_| Schedule::Hopper);
        let portable = self.forward.map(|_| Schedule::Portable);
        self.schedule.or(hopper).or(portable)
    }
}
