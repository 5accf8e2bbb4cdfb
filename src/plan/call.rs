//! A call whose tensors fit together, as families of kernels plan it.

use super::view::View;
use crate::problem::Problem;

/// Output from inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardCall {
    pub problem: Problem,
    pub query: View,
    pub key: View,
    /// The pair axis is that of the value's halves, wherever they lie.
    pub value: View,
    pub lambda: Option<View>,
    pub gamma: Option<View>,
    pub output: View,
    /// O and O_2 before the norm, where they are wanted and the output alone does not hold them.
    pub saved: Option<View>,
    pub lse: Option<View>,
}

/// Gradients of the inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackwardCall {
    pub problem: Problem,
    pub query: View,
    pub key: View,
    /// The pair axis is that of the value's halves, wherever they lie.
    pub value: View,
    pub lambda: Option<View>,
    pub gamma: Option<View>,
    pub saved: View,
    pub lse: View,
    pub grad_output: View,
    pub grad_query: View,
    pub grad_key: View,
    /// As the value's.
    pub grad_value: View,
    pub grad_lambda: Option<View>,
    /// λ's sizes over `[B, Nq, H]`, 1 where it is broadcast.
    pub lambda_sizes: [usize; 3],
    pub grad_gamma: Option<View>,
}
