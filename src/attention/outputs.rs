//! What the forward kernels write, and where it lies.

use cubecl::prelude::Client;

use super::axes::{Axes, AxisStrides};
use super::check::writable;
use super::saved::{Saved, saves_outputs};
use crate::error::Result;
use crate::problem::Problem;
use crate::tensor::Tensor;

/// Where it lies.
pub(super) struct OutputLayout {
    pub output: AxisStrides,
    /// O and O_2, where the output alone does not hold them.
    pub saved: AxisStrides,
    pub lse: AxisStrides,
    pub save_outputs: bool,
    pub save_lse: bool,
    /// Whether the buffers begin at multiples of 16 bytes.
    #[cfg_attr(
        not(feature = "hopper"),
        expect(dead_code, reason = "portable kernels do not ask")
    )]
    pub aligned: bool,
}

impl OutputLayout {
    /// Of the tensors that [`forward`](super::forward()) makes.
    pub(super) fn row_major(problem: &Problem, save: bool) -> Self {
        let [_, len, heads, maps, dim] = problem.outputs_shape();
        let save_outputs = save && saves_outputs(problem);
        Self {
            output: AxisStrides::row_major(len, heads, 1, dim),
            saved: if save_outputs {
                AxisStrides::row_major(len, heads, maps, dim)
            } else {
                AxisStrides::default()
            },
            lse: lse_strides(problem),
            save_outputs,
            save_lse: save,
            aligned: true,
        }
    }
}

/// What the kernels write to.
pub(super) struct Outputs<'a> {
    pub output: &'a Tensor,
    pub saved: Option<&'a Tensor>,
    pub lse: Option<&'a Tensor>,
    pub layout: OutputLayout,
}

impl<'a> Outputs<'a> {
    /// Of the caller's tensors, if they are what the problem asks for.
    pub(super) fn new(
        client: &Client,
        problem: &Problem,
        output: &'a Tensor,
        saved: Option<&'a Saved>,
    ) -> Result<Self> {
        let output_axes = output_axes(client, problem, output)?;
        if let Some(saved) = saved {
            saved.check(client, problem, true)?;
        }
        let saved_axes = saved.map(Saved::axes).transpose()?;
        let lse = saved.map(|saved| &saved.lse);
        let saved = saved.filter(|_| saves_outputs(problem));
        let saved = saved.map(|saved| &saved.outputs);
        let start = |tensor: &Tensor| tensor.handle().offset_start.unwrap_or(0);
        let layout = OutputLayout {
            output: output_axes.strides,
            saved: saved_axes.map_or(AxisStrides::default(), |axes| axes.strides),
            lse: lse_strides(problem),
            save_outputs: saved.is_some(),
            save_lse: lse.is_some(),
            aligned: [Some(output), saved]
                .into_iter()
                .flatten()
                .all(|tensor| start(tensor).is_multiple_of(16)),
        };
        Ok(Self {
            output,
            saved,
            lse,
            layout,
        })
    }
}

fn output_axes(client: &Client, problem: &Problem, output: &Tensor) -> Result<Axes> {
    let shape = problem.output_shape();
    writable(client, "output", output, problem.dtype, &shape)?;
    Axes::of("output", output, &[4], "[B, Nq, H, dv]")
}

/// Row-major `[B, H, maps, Nq]`.
fn lse_strides(problem: &Problem) -> AxisStrides {
    let [_, heads, maps, len] = problem.lse_shape();
    AxisStrides {
        offset: 0,
        batch: heads * maps * len,
        seq: 1,
        head: maps * len,
        pair: len,
    }
}
