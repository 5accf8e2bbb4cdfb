//! How to compute attention.

use crate::kernels::Tuning;
use crate::problem::{Mask, Norm};

/// What to compute: mask, scale, norm, what to keep, settings.
///
/// ```
/// use diff_flash_attn::{Mask, Norm, Options};
/// let norm = Norm { eps: 1e-5, lambda_init: 0.2 };
/// let options = Options::default().with_mask(Mask::Causal).with_norm(norm).with_save_for_backward(true);
/// assert_eq!(options.mask, Mask::Causal);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on the scores; `None` is `1/√d`.
    pub scale: Option<f32>,
    /// Normalisation of the output.
    pub norm: Option<Norm>,
    /// Keep what [`backward`](crate::backward) needs.
    pub save_for_backward: bool,
    /// Settings of the kernels; by default the tables'.
    pub tuning: Tuning,
}

impl Options {
    /// Sets the mask.
    pub fn with_mask(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    /// Sets the factor on the scores; `None` is `1/√d`.
    pub fn with_scale(mut self, scale: impl Into<Option<f32>>) -> Self {
        self.scale = scale.into();
        self
    }

    /// Sets the normalisation of the output, or none.
    pub fn with_norm(mut self, norm: impl Into<Option<Norm>>) -> Self {
        self.norm = norm.into();
        self
    }

    /// Keeps what [`backward`](crate::backward) needs, or not.
    pub fn with_save_for_backward(mut self, save: bool) -> Self {
        self.save_for_backward = save;
        self
    }

    /// Sets the settings of the kernels.
    pub fn with_tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }
}
