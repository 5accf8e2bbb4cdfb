//! The layer on the device: forward, backward, and how long they take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diff_flash_attn::{
    Client, DType, Direction, Forward, Gradients, Inputs, Options, Problem, Tensor, backward,
    forward, plan_backward, plan_forward, reference,
};
use golden::{Makers, Row};

use super::layer::Layer;

/// Least and most runs of a measurement, and the time after which it ends between them.
const RUNS: std::ops::Range<usize> = 3..100;
const ENOUGH: Duration = Duration::from_secs(1);

/// An attention problem on the device.
pub(crate) struct Attention {
    client: Client,
    inputs: Inputs,
    options: Options,
    grad_output: Tensor,
}

impl Attention {
    /// The layer's own attention.
    pub(crate) fn differential(client: &Client, layer: &Layer) -> Result<Self> {
        let Problem {
            heads,
            head_dim,
            value_dim,
            dtype,
            ..
        } = layer.problem;
        let seq = layer.text.len();
        let query = [1, seq, heads, 2, head_dim];
        let value = [1, seq, heads, value_dim];
        let lambda = upload(client, DType::F32, &[1], &[layer.lambda.into()])?;
        let inputs = Inputs::differential(
            upload(client, dtype, &query, &layer.inputs.query)?,
            upload(client, dtype, &query, &layer.inputs.key)?,
            upload(client, dtype, &value, &layer.inputs.value)?,
            lambda,
        );
        let inputs = match &layer.inputs.gamma {
            Some(gamma) => inputs.with_gamma(upload(client, DType::F32, &[value_dim], gamma)?),
            None => inputs,
        };
        let options = Options::default()
            .with_mask(layer.problem.mask)
            .with_norm(layer.problem.norm)
            .with_save_for_backward(true);
        let grad_output = upload(client, dtype, &value, &layer.grad_output)?;
        Ok(Self {
            client: client.clone(),
            inputs,
            options,
            grad_output,
        })
    }

    /// Standard attention of the same width, on the same buffers: twice as many heads of one map, no norm.
    pub(crate) fn standard(&self) -> Self {
        let shape = self.inputs.query.shape();
        let heads = [1, shape[1], 2 * shape[2], shape[4]];
        let view =
            |tensor: &Tensor| Tensor::contiguous(tensor.handle().clone(), tensor.dtype(), &heads);
        let Inputs {
            query, key, value, ..
        } = &self.inputs;
        Self {
            client: self.client.clone(),
            inputs: Inputs::standard(view(query), view(key), view(value)),
            options: self.options.with_norm(None),
            grad_output: view(&self.grad_output),
        }
    }

    /// Sizes and costs.
    pub(crate) fn problem(&self) -> Result<Problem> {
        Ok(self.inputs.problem(&self.options)?)
    }

    /// How far the output and every gradient are from the reference.
    pub(crate) fn errors(&self, layer: &Layer) -> Result<Vec<Row>> {
        let (problem, inputs) = (&layer.problem, &layer.inputs);
        let output = reference::forward(problem, inputs)?.output;
        let expected = reference::backward(problem, inputs, &layer.grad_output)?;
        let result = self.forward()?;
        let Gradients {
            query,
            key,
            value,
            lambda,
            gamma,
            ..
        } = self.backward(&result)?;
        let makers = self.makers(&result)?;
        let row = |tensor, ours: &Tensor, theirs: &[f64]| -> Result<Row> {
            let ours: Vec<f64> = ours
                .to_f32(&self.client)?
                .into_iter()
                .map(f64::from)
                .collect();
            Row::new("README.md", (tensor, &makers), &ours, theirs)
        };
        let lambda = lambda.context("no gradient of λ")?;
        let gamma = gamma.context("no gradient of γ")?;
        Ok(vec![
            row("y", &result.output, &output)?,
            row("dq", &query, &expected.query)?,
            row("dk", &key, &expected.key)?,
            row("dv", &value, &expected.value)?,
            row("dlambda", &lambda, &[expected.lambda.iter().sum()])?,
            row(
                "dgamma",
                &gamma,
                &expected.gamma.context("no reference for γ")?,
            )?,
        ])
    }

    /// Who computes the output and the gradients.
    fn makers(&self, result: &Forward) -> Result<Makers> {
        let (client, inputs, options) = (&self.client, &self.inputs, &self.options);
        let saved = result.saved.as_ref().context("nothing was saved")?;
        let forward = plan_forward(client, inputs, options)?;
        let backward = plan_backward(client, inputs, saved, &self.grad_output, options)?;
        Ok(Makers::of(&forward).and(&backward))
    }

    /// Median device time of one run, after one that compiles the kernels.
    pub(crate) fn time(&self, direction: Direction) -> Result<Duration> {
        let result = self.forward()?;
        let run = || -> Result<()> {
            match direction {
                Direction::Forward => self.forward().map(drop),
                Direction::Backward => self.backward(&result).map(drop),
            }
        };
        run()?;
        let start = Instant::now();
        let mut times = Vec::new();
        while times.len() < RUNS.start || (times.len() < RUNS.end && start.elapsed() < ENOUGH) {
            times.push(self.profile(&run)?);
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    fn forward(&self) -> Result<Forward> {
        Ok(forward(&self.client, &self.inputs, &self.options)?)
    }

    fn backward(&self, result: &Forward) -> Result<Gradients> {
        let saved = result
            .saved
            .as_ref()
            .context("nothing was saved for backward")?;
        Ok(backward(
            &self.client,
            &self.inputs,
            saved,
            &self.grad_output,
            &self.options,
        )?)
    }

    /// The time that the device spends on what `run` launches.
    fn profile(&self, run: &(impl Fn() -> Result<()> + Sync)) -> Result<Duration> {
        let profiled = self.client.profile(run, "attention");
        let (done, duration) = profiled.map_err(|error| anyhow!("{error:?}"))?;
        done?;
        let ticks =
            pollster::block_on(duration.resolve()).context("the device measured nothing")?;
        Ok(ticks.duration())
    }
}

fn upload(client: &Client, dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    Ok(Tensor::from_f32(client, dtype, shape, &values)?)
}
