//! Gradients of query, key and value: the two passes whose cost is that of the products.

use cubecl::prelude::*;

use super::Call;
use super::rows::RowResults;
use crate::attention::axes::Axes;
use crate::attention::gradients::Gradients;
use crate::attention::inputs::Checked;
use crate::attention::launch::{
    band, buffer, check_launch, check_loops, choose_tile, strides, vector_width,
};
use crate::error::Result;
use crate::kernels::portable::backward::key_value::{
    self as backward_key_value, KeyValueGradientStridesLaunch, attention_backward_key_value,
};
use crate::kernels::portable::backward::query::{
    self as backward_query, QueryGradientStridesLaunch, attention_backward_query,
};
use crate::kernels::portable::backward::shape::GradientShape;
use crate::kernels::portable::tile::Tile;
use crate::tuning::{Pass, Settings};

impl Call<'_> {
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

    pub(super) fn query(&self, rows: &RowResults) -> Result<()> {
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
            &rows.grad.axes,
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
                buffer(&rows.grad.tensor),
                buffer(&rows.statistics),
                buffer(target),
                QueryGradientStridesLaunch::new(
                    strides(&query.strides),
                    strides(&key.strides),
                    strides(&value.strides),
                    strides(&rows.grad.axes),
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

    pub(super) fn key_value(&self, rows: &RowResults) -> Result<()> {
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
            &rows.grad.axes,
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
                buffer(&rows.grad.tensor),
                buffer(&rows.statistics),
                buffer(key_target),
                buffer(value_target),
                KeyValueGradientStridesLaunch::new(
                    strides(&query.strides),
                    strides(&key.strides),
                    strides(&value.strides),
                    strides(&rows.grad.axes),
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
