//! A call of the catalogue at a modest length, run on a device that counts.

use core::fmt;

use anyhow::{Context, Result, ensure};
use checks::catalogue::Entry;
use diff_flash_attn::{
    Client, DType, Description, Direction, Error, Inputs, Plan, Problem, Tensor, backward, forward,
    plan_backward, plan_forward,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use simulator::{CountedLaunch, Counting, buffer};

/// A call.
pub(super) struct Case {
    entry: Entry,
}

/// A launch of a call, with what its plan says of it.
pub(super) struct Counted {
    /// The call.
    pub call: String,
    pub problem: Problem,
    pub direction: Direction,
    pub step: Description,
    pub launch: CountedLaunch,
    /// Names of the launch's tensors.
    pub names: Vec<String>,
}

impl Case {
    pub fn new(entry: Entry, length: usize, heads: [usize; 2]) -> Self {
        let problem = entry.problem.with_lengths([length; 2]).with_heads(heads);
        Self {
            entry: Entry { problem, ..entry },
        }
    }

    /// Its launches, inference without those of training; none if the device is not for its family.
    pub fn count(&self, device: &Counting) -> Result<Vec<Counted>> {
        let client = device.client();
        let inputs = self.inputs(client)?;
        let options = self.entry.options().with_save_for_backward(true);
        let plan = match plan_forward(client, &inputs, &options) {
            Err(Error::Settings { .. }) => return Ok(vec![]),
            plan => plan?,
        };
        let result = forward(client, &inputs, &options)?;
        let saved = result.saved.context("forward saved nothing for backward")?;
        let mut names = names(&inputs);
        names.extend(
            [
                ("output", &result.output),
                ("saved outputs", &saved.outputs),
                ("saved LSE", &saved.lse),
            ]
            .map(numbered),
        );
        let mut counted = self.launches(device, &plan, Direction::Forward, &names)?;

        let p = &self.entry.problem;
        let gradient = random(
            client,
            p.dtype,
            &[p.batch, p.query_len, p.heads, p.value_dim],
            9,
        )?;
        let plan = plan_backward(client, &inputs, &saved, &gradient, &options)?;
        let gradients = backward(client, &inputs, &saved, &gradient, &options)?;
        names.extend(
            [
                ("dO", &gradient),
                ("dQ", &gradients.query),
                ("dK", &gradients.key),
                ("dV", &gradients.value),
            ]
            .map(numbered),
        );
        counted.extend(self.launches(device, &plan, Direction::Backward, &names)?);
        Ok(counted)
    }

    fn launches(
        &self,
        device: &Counting,
        plan: &Plan,
        direction: Direction,
        names: &[(usize, &'static str)],
    ) -> Result<Vec<Counted>> {
        // A read, so that what went wrong is told.
        Tensor::from_f32(device.client(), DType::F32, &[1], &[0.0])?.to_f32(device.client())?;
        let (launches, steps) = (device.take()?, plan.describe());
        let (launched, planned) = (launches.len(), steps.len());
        ensure!(
            launched == planned,
            "{launched} launches of {planned} planned"
        );
        let name = |number: usize| {
            let known = names.iter().find(|(known, _)| *known == number);
            known.map_or("scratch", |(_, name)| name).to_string()
        };
        let counted = launches
            .into_iter()
            .zip(steps)
            .map(|(launch, step)| Counted {
                call: self.to_string(),
                problem: self.entry.problem,
                direction,
                names: launch.tensors.iter().map(|it| name(it.buffer)).collect(),
                step,
                launch,
            });
        Ok(counted.collect())
    }

    /// The same random numbers every time.
    fn inputs(&self, client: &Client) -> Result<Inputs> {
        let p = &self.entry.problem;
        let axes = |len: usize, heads: usize, maps: Option<usize>, dim: usize| {
            let all = [Some(p.batch), Some(len), Some(heads), maps, Some(dim)];
            all.into_iter().flatten().collect::<Vec<_>>()
        };
        let pair = |maps: usize| (p.maps == 2).then_some(maps);
        let query = random(
            client,
            p.dtype,
            &axes(p.query_len, p.heads, pair(p.maps), p.head_dim),
            1,
        )?;
        let key = random(
            client,
            p.dtype,
            &axes(p.key_len, p.kv_heads, pair(p.key_maps()), p.head_dim),
            2,
        )?;
        let value = random(
            client,
            p.dtype,
            &axes(p.key_len, p.kv_heads, None, p.value_dim),
            3,
        )?;
        let rows = [p.batch, p.query_len, p.heads];
        let shape = if self.entry.token_lambda {
            &rows[..]
        } else {
            &rows[2..]
        };
        let lambda = (p.maps == 2)
            .then(|| random(client, DType::F32, shape, 4))
            .transpose()?;
        let gamma = p
            .norm
            .map(|_| random(client, DType::F32, &[p.value_dim], 5))
            .transpose()?;
        Ok(Inputs::standard(query, key, value)
            .with_lambda(lambda)
            .with_gamma(gamma))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entry.family, self.entry)
    }
}

fn names(inputs: &Inputs) -> Vec<(usize, &'static str)> {
    let always = [
        ("query", &inputs.query),
        ("key", &inputs.key),
        ("value", &inputs.value),
    ];
    let given = [("lambda", &inputs.lambda), ("gamma", &inputs.gamma)];
    let given = given
        .into_iter()
        .filter_map(|(name, tensor)| Some((name, tensor.as_ref()?)));
    always.into_iter().chain(given).map(numbered).collect()
}

fn numbered((name, tensor): (&'static str, &Tensor)) -> (usize, &'static str) {
    (buffer(tensor.handle()), name)
}

fn random(client: &Client, dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Ok(Tensor::from_f32(client, dtype, shape, &values)?)
}
