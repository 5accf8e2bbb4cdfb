//! Numbers of a problem that do not change the code of its kernels.

use cubecl::prelude::*;

use crate::problem::Problem;

/// Numbers of a forward kernel.
#[derive(CubeType, CubeLaunch, Clone, Copy, Debug)]
pub(crate) struct ForwardNumbers {
    /// Query heads of a key and value head.
    pub group: u32,
    pub scale: f32,
    pub eps: f32,
    /// 1 − λ_init.
    pub factor: f32,
    /// Log-sum-exp written for a row that sees no key: −∞, which WGSL cannot name.
    pub unseen: f32,
}

impl ForwardNumbers {
    /// Those of a problem.
    pub(crate) fn of(problem: &Problem) -> Self {
        let norm = problem.norm;
        Self {
            group: problem.group() as u32,
            scale: problem.scale,
            eps: norm.map_or(0.0, |norm| norm.eps),
            factor: norm.map_or(1.0, |norm| norm.factor()),
            unseen: f32::NEG_INFINITY,
        }
    }

    /// As a kernel's argument.
    pub(crate) fn argument(&self) -> ForwardNumbersLaunch {
        let Self {
            group,
            scale,
            eps,
            factor,
            unseen,
        } = *self;
        ForwardNumbersLaunch::new(group, scale, eps, factor, unseen)
    }
}
