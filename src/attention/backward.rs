//! Backward.

use cubecl::prelude::*;

use super::axes::{Axes, AxisStrides};
use super::check::{check_device, check_inputs_device, check_shape, check_type};
use super::gradients::Gradients;
use super::inputs::{Checked, Inputs};
use super::launch::{
    band, buffer, check_launch, check_loops, check_reach, choose_tile, optional, strides,
    vector_width,
};
use super::options::Options;
use super::reduce::{Sum, sum};
use super::saved::Saved;
use crate::error::Result;
use crate::kernels::portable::backward_key_value::{
    self, KeyValueGradientStridesLaunch, attention_backward_key_value,
};
use crate::kernels::portable::backward_query::{
    self, QueryGradientStridesLaunch, attention_backward_query,
};
use crate::kernels::portable::backward_rows::{
    RowsNumbersLaunch, RowsShape, RowsStridesLaunch, attention_backward_rows, statistic_planes,
};
use crate::kernels::portable::gradient::GradientShape;
use crate::kernels::portable::tile::Tile;
use crate::math::reduce::Exchange;
use crate::problem::Problem;
use crate::tensor::{DType, Tensor};
use crate::tuning::{Limits, Pass, Settings};

/// Gradients of the inputs from `grad_output`, the gradient of [`forward`](crate::forward)'s output,
/// `[B, Nq, H, dv]` in the storage type of the inputs.
///
/// `dP = dO Vᵀ` is computed once for both maps, and `dV = (P_1 − λ P_2)ᵀ dO` from the combined probabilities; there are
/// no atomics, so results repeat bit for bit. `inputs` and `options` are those of the forward pass.
///
/// ```
/// use diff_flash_attn::{DType, Inputs, Options, Tensor, backward, device, forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let (query, key) = (ones(&[1, 4, 1, 2, 8])?, ones(&[1, 4, 1, 2, 8])?);
/// let (value, lambda) = (ones(&[1, 4, 1, 16])?, Tensor::from_f32(&client, DType::F32, &[1], &[0.25])?);
/// let inputs = Inputs::differential(query, key, value, lambda);
/// let options = Options { save_for_backward: true, ..Options::default() };
/// let result = forward(&client, &inputs, &options)?;
/// let saved = result.saved.expect("asked for");
/// let gradients = backward(&client, &inputs, &saved, &ones(&[1, 4, 1, 16])?, &options)?;
/// // Every query gives each of four equal keys the probability 1/4, times 1 − λ.
/// assert!(gradients.value.to_f32(&client)?.iter().all(|x| (x - 0.75).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Before anything is launched: what [`forward`](crate::forward) refuses, and a gradient or saved tensor that does not
/// fit. [`Error::Launch`](crate::Error::Launch) if the device refuses a launch.
pub fn backward(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
) -> Result<Gradients> {
    let gradients = Gradients::empty(client, inputs, &inputs.problem(options)?)?;
    backward_into(client, inputs, saved, grad_output, options, &gradients)?;
    Ok(gradients)
}

/// As [`backward`], writing into given tensors: those of query, key and value with any strides whose last axis is
/// contiguous, those of λ and γ row-major.
///
/// ```
/// use diff_flash_attn::{DType, Gradients, Inputs, Options, Tensor, backward_into, device, forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 4, 2, 8])?, ones(&[1, 4, 2, 8])?, ones(&[1, 4, 2, 8])?);
/// let options = Options { save_for_backward: true, ..Options::default() };
/// let saved = forward(&client, &inputs, &options)?.saved.expect("asked for");
/// // The gradients are wanted as [batch, heads, seq, dim].
/// let empty = || Tensor::empty(&client, DType::F32, &[1, 2, 4, 8]).permute(&[0, 2, 1, 3]);
/// let gradients = Gradients { query: empty()?, key: empty()?, value: empty()?, lambda: None, gamma: None };
/// backward_into(&client, &inputs, &saved, &ones(&[1, 4, 2, 8])?, &options, &gradients)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`backward`], and a gradient tensor of another shape, type or device, one whose elements overlap, or one that is
/// missing or not wanted.
pub fn backward_into(
    client: &Client,
    inputs: &Inputs,
    saved: &Saved,
    grad_output: &Tensor,
    options: &Options,
    gradients: &Gradients,
) -> Result<()> {
    let checked = inputs.check(options)?;
    let problem = &checked.problem;
    problem.dtype.check(client)?;
    check_inputs_device(client, inputs)?;
    saved.check(client, problem, false)?;
    gradients.check(client, inputs, problem)?;
    let grad_axes = grad_output_axes(client, problem, grad_output)?;
    let limits = Limits::of(client);
    let tensors = [
        &inputs.query,
        &inputs.key,
        &inputs.value,
        &saved.outputs,
        grad_output,
    ];
    check_reach(&limits, &tensors)?;
    let call = Call {
        client,
        limits,
        inputs,
        options,
        checked: &checked,
        gradients,
    };

    let incoming = Incoming {
        tensor: grad_output,
        axes: grad_axes.strides,
    };
    let rows = call.rows(saved, &incoming)?;
    call.query(&rows)?;
    call.key_value(&rows)
}

/// One call, checked.
struct Call<'a> {
    client: &'a Client,
    limits: Limits,
    inputs: &'a Inputs,
    options: &'a Options,
    checked: &'a Checked,
    gradients: &'a Gradients,
}

/// A gradient that a pass reads.
struct Incoming<'a> {
    tensor: &'a Tensor,
    axes: AxisStrides,
}

/// What the first pass leaves for the others.
struct RowResults {
    /// Gradient of the output before the norm.
    grad: Tensor,
    grad_axes: AxisStrides,
    statistics: Tensor,
}

impl Call<'_> {
    /// First pass: the gradient through the norm, the statistics of every row; λ and γ are done after it.
    fn rows(&self, saved: &Saved, incoming: &Incoming) -> Result<RowResults> {
        let Checked {
            problem, lambda, ..
        } = self.checked;
        let Problem {
            batch,
            query_len,
            heads,
            maps,
            value_dim,
            dtype,
            norm,
            ..
        } = *problem;
        let shape = self.rows_shape();
        let shared_memory = self.limits.shared_memory;
        self.limits
            .check("units of a cube", shape.units(), self.limits.units)?;
        self.limits.check(
            "bytes of shared memory",
            shape.shared_memory(),
            shared_memory,
        )?;
        let blocks = query_len.div_ceil(shape.rows());
        let grid = self.limits.grid([blocks, heads, batch])?;
        let planes = statistic_planes(maps);
        let statistics = Tensor::empty(self.client, DType::F32, &[planes, batch, heads, query_len]);
        let partial = Tensor::empty(
            self.client,
            DType::F32,
            &[batch * heads * blocks, value_dim],
        );
        let own = norm.map(|_| Tensor::empty(self.client, dtype, &problem.output_shape()));
        let (grad, grad_axes) = match own {
            Some(own) => {
                let axes = Axes::of("gradient", &own, &[4], "[B, Nq, H, dv]")?.strides;
                (own, axes)
            }
            None => (incoming.tensor.clone(), incoming.axes),
        };
        let saved_axes = saved.axes()?.strides;
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_rows::launch_unchecked(
                self.client,
                grid,
                CubeDim::new_1d(shape.units() as u32),
                vector_width(&[&incoming.axes, &saved_axes, &grad_axes]),
                buffer(incoming.tensor),
                buffer(&saved.outputs),
                optional(self.client, self.inputs.lambda.as_ref()),
                optional(self.client, self.inputs.gamma.as_ref()),
                buffer(&saved.lse),
                optional(self.client, norm.map(|_| &grad)),
                buffer(&statistics),
                buffer(&partial),
                RowsStridesLaunch::new(
                    strides(&incoming.axes),
                    strides(&saved_axes),
                    strides(lambda),
                    strides(&grad_axes),
                ),
                RowsNumbersLaunch::new(
                    query_len as u32,
                    norm.map_or(0.0, |norm| norm.eps),
                    norm.map_or(1.0, |norm| norm.factor()),
                ),
                shape,
                dtype.elem(),
            );
        }
        check_launch(self.client, "backward, rows", &statistics)?;
        self.lambda(&statistics)?;
        self.gamma(&partial)?;
        Ok(RowResults {
            grad,
            grad_axes,
            statistics,
        })
    }

    fn rows_shape(&self) -> RowsShape {
        let problem = &self.checked.problem;
        // More columns a unit than 32 would not fit its registers.
        let units_x = if problem.value_dim > 128 { 8 } else { 4 };
        let shuffles = self.limits.planes && self.limits.plane_min >= units_x;
        RowsShape {
            units_x,
            units_y: 64 / units_x,
            steps: 2,
            value_dim4: problem.value_dim / 4,
            maps: problem.maps,
            norm: problem.norm.is_some(),
            gamma: self.inputs.gamma.is_some(),
            exchange: if shuffles {
                Exchange::Plane
            } else {
                Exchange::Shared
            },
        }
    }

    /// `dλ = −δ_2`, summed over what λ was broadcast along.
    fn lambda(&self, statistics: &Tensor) -> Result<()> {
        let (Some(lambda), Some(grad)) = (&self.inputs.lambda, &self.gradients.lambda) else {
            return Ok(());
        };
        let Problem {
            batch,
            query_len,
            heads,
            ..
        } = self.checked.problem;
        let mut kept = [1; 3];
        let skipped = 3 - lambda.shape().len();
        kept[skipped..].copy_from_slice(lambda.shape());
        let noise_delta = 3 * batch * heads * query_len;
        let problem = Sum {
            offset: noise_delta,
            sizes: [batch, query_len, heads],
            strides: [heads * query_len, 1, query_len],
            kept,
            factor: -1.0,
        };
        sum(self.client, &self.limits, &problem, statistics, grad)
    }

    /// Sums the parts of the weight's gradient over blocks of rows.
    fn gamma(&self, partial: &Tensor) -> Result<()> {
        let Some(grad) = &self.gradients.gamma else {
            return Ok(());
        };
        let (parts, dim) = (partial.shape()[0], partial.shape()[1]);
        let problem = Sum {
            offset: 0,
            sizes: [1, parts, dim],
            strides: [0, dim, 1],
            kept: [1, 1, dim],
            factor: 1.0,
        };
        sum(self.client, &self.limits, &problem, partial, grad)
    }

    /// What is compiled into the kernel of a gradient pass, with the tile that is chosen for it.
    fn shape(
        &self,
        pass: Pass,
        chosen: Option<Settings>,
        shared_memory: fn(&GradientShape) -> usize,
    ) -> Result<GradientShape> {
        let problem = &self.checked.problem;
        let shape = |tile: Tile| GradientShape {
            tile,
            head_dim4: problem.head_dim / 4,
            value_dim4: problem.value_dim / 4,
            maps: problem.maps,
            key_maps: problem.key_maps(),
            sides: problem.band().0,
        };
        let memory = |tile| shared_memory(&shape(tile));
        Ok(shape(choose_tile(
            &self.limits,
            pass,
            problem,
            chosen,
            memory,
        )?))
    }

    fn query(&self, rows: &RowResults) -> Result<()> {
        let Checked {
            problem,
            query,
            key,
            value,
            ..
        } = self.checked;
        let chosen = self.options.tuning.query_gradient;
        let shape = self.shape(Pass::QueryGradient, chosen, backward_query::shared_memory)?;
        let tile = shape.tile;
        let target = &self.gradients.query;
        let grad_query = Axes::of("gradient of query", target, &[4, 5], "as query")?.strides;
        let stored = [
            &query.strides,
            &key.strides,
            &value.strides,
            &rows.grad_axes,
            &grad_query,
        ];
        check_loops(
            &self.limits,
            problem,
            tile,
            problem.key_len,
            shape.tile_loops(),
        )?;
        let tiles = problem.query_len.div_ceil(tile.tile_rows());
        let grid = self.limits.grid([tiles, problem.heads, problem.batch])?;
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_query::launch_unchecked(
                self.client,
                grid,
                CubeDim::new_1d(tile.units() as u32),
                vector_width(&stored),
                buffer(&self.inputs.query),
                buffer(&self.inputs.key),
                buffer(&self.inputs.value),
                buffer(&rows.grad),
                buffer(&rows.statistics),
                buffer(target),
                QueryGradientStridesLaunch::new(
                    strides(&query.strides),
                    strides(&key.strides),
                    strides(&value.strides),
                    strides(&rows.grad_axes),
                    strides(&grad_query),
                ),
                band(problem),
                problem.group() as u32,
                problem.scale,
                shape,
                problem.dtype.elem(),
            );
        }
        check_launch(self.client, "backward, query", target)
    }

    fn key_value(&self, rows: &RowResults) -> Result<()> {
        let Checked {
            problem,
            query,
            key,
            value,
            ..
        } = self.checked;
        let chosen = self.options.tuning.key_value_gradient;
        let memory = backward_key_value::shared_memory;
        let shape = self.shape(Pass::KeyValueGradient, chosen, memory)?;
        let tile = shape.tile;
        let Gradients {
            key: key_target,
            value: value_target,
            ..
        } = self.gradients;
        let grad_key = Axes::of("gradient of key", key_target, &[4, 5], "as key")?.strides;
        let mut grad_value =
            Axes::of("gradient of value", value_target, &[4, 5], "as value")?.strides;
        if value_target.shape().len() == 4 {
            grad_value.pair = problem.value_dim / 2;
        }
        let stored = [
            &query.strides,
            &key.strides,
            &value.strides,
            &rows.grad_axes,
            &grad_key,
            &grad_value,
        ];
        let loops = problem.group() * backward_key_value::tile_loops(&shape);
        check_loops(&self.limits, problem, tile, problem.query_len, loops)?;
        let tiles = problem.key_len.div_ceil(tile.tile_rows());
        let grid = self.limits.grid([tiles, problem.kv_heads, problem.batch])?;
        // SAFETY: the kernel guards every row and column by the sizes that were compared with the buffers.
        unsafe {
            attention_backward_key_value::launch_unchecked(
                self.client,
                grid,
                CubeDim::new_1d(tile.units() as u32),
                vector_width(&stored),
                buffer(&self.inputs.query),
                buffer(&self.inputs.key),
                buffer(&self.inputs.value),
                buffer(&rows.grad),
                buffer(&rows.statistics),
                buffer(key_target),
                buffer(value_target),
                KeyValueGradientStridesLaunch::new(
                    strides(&query.strides),
                    strides(&key.strides),
                    strides(&value.strides),
                    strides(&rows.grad_axes),
                    strides(&grad_key),
                    strides(&grad_value),
                ),
                band(problem),
                problem.group() as u32,
                problem.scale,
                shape,
                problem.dtype.elem(),
            );
        }
        check_launch(self.client, "backward, key and value", key_target)
    }
}

fn grad_output_axes(client: &Client, problem: &Problem, grad_output: &Tensor) -> Result<Axes> {
    let name = "gradient of output";
    check_shape(name, grad_output, &problem.output_shape())?;
    check_type(name, grad_output, problem.dtype)?;
    check_device(client, &[(name, grad_output)])?;
    Axes::of(name, grad_output, &[4], "[B, Nq, H, dv]")
}
