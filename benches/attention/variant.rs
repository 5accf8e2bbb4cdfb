//! A way to compute attention: its calls on the device, and what they leave there.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cubecl::prelude::Client;
use diff_flash_attn::Tensor;

/// Work that one function enqueues on the device.
pub(crate) type Call = Box<dyn Fn() -> Result<()> + Send + Sync>;

/// Tensors read back, by name.
pub(crate) type Results = Vec<(&'static str, Vec<f32>)>;

/// Calls to be timed, and the tensors that they write.
pub(crate) struct Variant {
    calls: Vec<Call>,
    /// Each result is a sum of tensors with factors.
    results: Vec<(&'static str, Vec<(f32, Tensor)>)>,
}

impl Variant {
    /// A forward pass whose output is the sum of `terms`, each `[B, Nq, H, dv]`.
    pub(crate) fn forward(calls: Vec<Call>, terms: Vec<(f32, Tensor)>) -> Self {
        let results = vec![("O", terms)];
        Self { calls, results }
    }

    /// A backward pass with its gradients of query and key for each map, `[B, N, H, d]`, and of the value, which is the
    /// sum of `values`, each `[B, Nk, H, dv]`.
    pub(crate) fn backward(
        calls: Vec<Call>,
        [query1, query2]: [Tensor; 2],
        [key1, key2]: [Tensor; 2],
        values: Vec<Tensor>,
    ) -> Self {
        let values = values.into_iter().map(|value| (1.0, value)).collect();
        let results = vec![
            ("dQ1", vec![(1.0, query1)]),
            ("dQ2", vec![(1.0, query2)]),
            ("dK1", vec![(1.0, key1)]),
            ("dK2", vec![(1.0, key2)]),
            ("dV", values),
        ];
        Self { calls, results }
    }

    /// Time that the calls take on the device: each is measured by itself, so nothing between them counts.
    pub(crate) fn device_time(&self, client: &Client) -> Result<Duration> {
        self.calls.iter().map(|call| time(client, call)).sum()
    }

    /// Enqueues all calls.
    pub(crate) fn run(&self) -> Result<()> {
        self.calls.iter().try_for_each(|call| call())
    }

    /// What the calls have written.
    pub(crate) fn read(&self, client: &Client) -> Result<Results> {
        let read = |(name, terms): &(_, Vec<_>)| Ok((*name, sum(client, terms)?));
        self.results.iter().map(read).collect()
    }
}

fn time(client: &Client, call: &Call) -> Result<Duration> {
    let (outcome, profile) = client
        .profile(call, "attention")
        .map_err(|error| anyhow!("profile: {error:?}"))?;
    outcome?;
    let ticks = pollster::block_on(profile.resolve());
    Ok(ticks.context("the device measured nothing")?.duration())
}

/// `Σ factor · tensor`, row-major.
fn sum(client: &Client, terms: &[(f32, Tensor)]) -> Result<Vec<f32>> {
    let mut total = Vec::new();
    for (factor, tensor) in terms {
        let values = tensor.to_f32(client)?;
        total.resize(values.len(), 0.0);
        for (total, value) in total.iter_mut().zip(values) {
            *total += factor * value;
        }
    }
    Ok(total)
}
