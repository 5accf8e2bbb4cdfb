//! Which calls are timed, the ones that matter most first.

use anyhow::Result;
use diff_flash_attn::tuning::Schedule;
use diff_flash_attn::{
    Client, DType, Direction, Options, Problem, Tuning, device, forward_schedule,
};
use indicatif::ProgressBar;

use crate::clock::{Budget, time};
use crate::data::Data;
use crate::record::{Outcome, Record, Results, Shape, pass};
use crate::shapes::{MODELS, Model, standard};
use DType::{BF16, F16, F32};
use Direction::{Backward, Forward};
use What::{Differential, Portable, Standard};

/// Who computes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Differential attention by the kernel that the library takes.
    Differential,
    /// Differential attention by the portable kernel, where the library takes another.
    Portable,
    /// Standard attention of the same model width.
    Standard,
}

impl What {
    fn provider(self) -> &'static str {
        match self {
            Differential => "ours",
            Portable => "ours_portable",
            Standard => "ours_standard",
        }
    }

    /// What it solves in place of a differential problem.
    fn problem(self, differential: &Problem) -> Problem {
        match self {
            Standard => standard(differential),
            _ => *differential,
        }
    }
}

/// Calls on one model that read the same buffers.
struct Group {
    model: &'static Model,
    dtype: DType,
    what: What,
    /// Length, whether causal, direction.
    calls: Vec<(usize, bool, Direction)>,
}

/// Every group, in order of interest.
fn plan() -> Vec<Group> {
    let group = |model, dtype, what, calls: &[_]| Group {
        model,
        dtype,
        what,
        calls: calls.to_vec(),
    };
    let causal = |len| (len, true, Forward);
    let long = [2048, 4096, 8192, 16_384].map(causal);
    let mut groups = vec![];
    for model in &MODELS {
        let mut calls = long.to_vec();
        if model.window.is_none() {
            calls.push((8192, false, Forward));
        }
        calls.push((4096, true, Backward));
        groups.push(group(model, BF16, Differential, &calls));
        groups.push(group(model, BF16, Portable, &[causal(4096)]));
    }
    for model in &MODELS {
        if model.window.is_some() {
            continue;
        }
        let mut calls = vec![causal(4096), causal(8192), (8192, false, Forward)];
        // The gradient of the output of DIFF V2's counterpart is twice as large as the buffer.
        if !model.shared_key {
            calls.push((4096, true, Backward));
        }
        groups.push(group(model, BF16, Standard, &calls));
    }
    for dtype in [F16, F32] {
        for model in [&MODELS[1], &MODELS[0]] {
            let lengths = [1024, 2048, 4096, 8192, 16_384].map(causal);
            let backward = [1024, 4096].map(|len| (len, true, Backward));
            let calls = [&lengths[..], &backward].concat();
            groups.push(group(model, dtype, Differential, &calls));
        }
    }
    groups
}

/// Times everything that fits the budget.
pub(crate) fn run(client: &Client, budget: &Budget, results: &mut Results) {
    let groups = plan();
    let calls = groups.iter().map(|group| group.calls.len()).sum::<usize>();
    let progress = ProgressBar::new(calls as u64);
    for group in &groups {
        results.results.extend(group.run(client, budget, &progress));
    }
    progress.finish_and_clear();
}

impl Group {
    fn run(&self, client: &Client, budget: &Budget, progress: &ProgressBar) -> Vec<Record> {
        let mut data = None;
        let mut records = vec![];
        for &(len, causal, direction) in &self.calls {
            let differential = self.model.problem(len, causal, self.dtype);
            let problem = self.what.problem(&differential);
            let outcome = if budget.is_spent() {
                Outcome::skipped("no time left")
            } else {
                self.measure(client, &mut data, &problem, direction)
                    .unwrap_or_else(|error| Outcome::skipped(&format!("{error:#}")))
            };
            records.push(self.record(client, &differential, direction, outcome));
            progress.inc(1);
        }
        records
    }

    fn measure(
        &self,
        client: &Client,
        data: &mut Option<Data>,
        problem: &Problem,
        direction: Direction,
    ) -> Result<Outcome> {
        problem.dtype.check(client)?;
        if data.is_none() {
            *data = Some(Data::random(client, problem)?);
        }
        let data = data.as_ref().expect("just made");
        let options = Options {
            mask: problem.mask,
            tuning: Tuning {
                schedule: (self.what == Portable).then_some(Schedule::Portable),
                ..Tuning::default()
            },
            ..Options::default()
        };
        let flops = problem.flops(direction);
        if direction == Backward {
            let call = data.backward(problem, options)?;
            return Ok(Outcome::timed(time(client, &call)?, flops, None));
        }
        let (inputs, call) = data.forward(problem, options)?;
        let schedule = forward_schedule(client, &inputs, &options)?;
        if self.what == Portable {
            let default = forward_schedule(
                client,
                &inputs,
                &Options {
                    mask: problem.mask,
                    ..Options::default()
                },
            )?;
            anyhow::ensure!(default != Schedule::Portable, "the library takes it anyway");
        }
        let times = time(client, &call)?;
        Ok(Outcome::timed(times, flops, Some(schedule.to_string())))
    }

    fn record(
        &self,
        client: &Client,
        differential: &Problem,
        direction: Direction,
        outcome: Outcome,
    ) -> Record {
        Record {
            provider: self.what.provider().into(),
            model: self.model.name,
            shape: Shape::of(differential),
            dtype: self.dtype.to_string(),
            pass: pass(direction),
            device: device::describe(client),
            outcome,
        }
    }
}
