//! Which calls are timed, the ones that matter most first.

use anyhow::{Context, Result, anyhow, ensure};
use checks::device::forward_family;
use diff_flash_attn::tuning::{Family, Pass, Settings, shipped};
use diff_flash_attn::{Client, DType, Direction, Mask, Options, Problem, Tuning, device};
use indicatif::ProgressBar;

use crate::choice::Choice;
use crate::clock::{Budget, time};
use crate::data::Data;
use crate::record::{Outcome, Record, Results, Shape, pass};
use crate::shapes::{MODELS, Model, name, standard};
use DType::{BF16, F16, F32};
use Direction::{Backward, Forward};
use What::{Differential, InTurn, Portable, Standard};

/// Who computes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Differential attention by the kernel that the library takes.
    Differential,
    /// Differential attention by the portable kernel, where the library takes another.
    Portable,
    /// Differential attention by the kernel for compute capability 9.0, products and softmax one after the other.
    InTurn,
    /// Standard attention of the same model width.
    Standard,
}

impl What {
    fn provider(self) -> &'static str {
        match self {
            Differential => "ours",
            Portable => "ours_portable",
            InTurn => "ours_no_overlap",
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

    fn tuning(self, problem: &Problem) -> Result<Tuning> {
        Ok(match self {
            Portable => Tuning::of(Family::Portable),
            InTurn => Tuning::default().with(Pass::Forward, in_turn(problem)?),
            _ => Tuning::default(),
        })
    }
}

/// The table's settings for a causal mask, without their overlap.
fn in_turn(problem: &Problem) -> Result<Settings> {
    let causal = problem.with_mask(Mask::Causal);
    let mut rows = shipped().filter(|row| row.pass == Pass::Forward && row.covers(&causal));
    let settings = rows.find_map(|row| match row.settings {
        Settings::Hopper(settings) => Some(settings),
        _ => None,
    });
    let mut settings = settings.context("no settings for these dimensions")?;
    settings.overlap = false;
    Ok(settings.into())
}

/// Calls on one model that read the same buffers.
struct Group {
    model: &'static Model,
    dtype: DType,
    what: What,
    calls: Vec<Call>,
}

/// What is timed of a group.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// Sequences in the batch, which always has all tokens: the more, the shorter.
    batch: usize,
    causal: bool,
    direction: Direction,
}

const fn call(batch: usize, causal: bool, direction: Direction) -> Call {
    Call {
        batch,
        causal,
        direction,
    }
}

const fn causal(batch: usize) -> Call {
    call(batch, true, Forward)
}

const FULL: Call = call(2, false, Forward);
const BACKWARD: Call = call(4, true, Backward);

/// Every group, in order of interest.
fn plan() -> Vec<Group> {
    let group = |model, dtype, what, calls: &[_]| Group {
        model,
        dtype,
        what,
        calls: calls.to_vec(),
    };
    let mut groups = vec![];
    for model in &MODELS {
        let mut calls = [8, 4, 2, 1].map(causal).to_vec();
        if model.window.is_none() {
            calls.push(FULL);
        }
        calls.push(BACKWARD);
        groups.push(group(model, BF16, Differential, &calls));
        groups.push(group(model, BF16, Portable, &[causal(4)]));
        if model.window.is_none() {
            groups.push(group(model, BF16, InTurn, &[causal(2)]));
        }
    }
    for model in &MODELS {
        if model.window.is_some() {
            continue;
        }
        let mut calls = vec![causal(4), causal(2), FULL];
        // The gradient of the output of DIFF V2's counterpart is twice as large as the buffer.
        if !model.shared_key {
            calls.push(BACKWARD);
        }
        groups.push(group(model, BF16, Standard, &calls));
    }
    for dtype in [F16, F32] {
        for model in [&MODELS[1], &MODELS[0]] {
            let lengths = [16, 8, 4, 2, 1].map(causal);
            let backward = [call(16, true, Backward), BACKWARD];
            let calls = [&lengths[..], &backward].concat();
            groups.push(group(model, dtype, Differential, &calls));
        }
    }
    groups
}

/// Times everything that is chosen and fits the budget.
pub(crate) fn run(client: &Client, choice: &Choice, budget: &Budget, results: &mut Results) {
    let mut groups = plan();
    for group in &mut groups {
        group.choose(choice);
    }
    let calls = groups.iter().map(|group| group.calls.len()).sum::<usize>();
    let progress = ProgressBar::new(calls as u64);
    for group in &groups {
        let records = group.run(client, choice.tokens, budget, &progress);
        results.results.extend(records);
    }
    progress.finish_and_clear();
}

impl Group {
    /// Leaves out what is not wanted.
    fn choose(&mut self, choice: &Choice) {
        let calls = self.calls.clone();
        let wanted = |call: &Call| {
            let problem = self.differential(call, choice.tokens);
            let (model, provider) = (self.model.name, self.what.provider());
            let (problem, pass) = (name(&problem), pass(call.direction));
            choice.takes(&format!("{model} {problem} {provider} {pass}"))
        };
        self.calls = calls.into_iter().filter(wanted).collect();
    }

    fn differential(&self, call: &Call, tokens: usize) -> Problem {
        let size = [call.batch, tokens / call.batch];
        self.model.problem(size, call.causal, self.dtype)
    }

    fn run(
        &self,
        client: &Client,
        tokens: usize,
        budget: &Budget,
        progress: &ProgressBar,
    ) -> Vec<Record> {
        let mut data = None;
        let mut records = vec![];
        for call in &self.calls {
            let differential = self.differential(call, tokens);
            let problem = self.what.problem(&differential);
            let measured = if budget.is_spent() {
                Err(anyhow!("no time left"))
            } else {
                self.measure(client, &mut data, &problem, call.direction)
            };
            records.push(self.record(client, &differential, call.direction, measured));
            progress.inc(1);
        }
        records
    }

    /// Which forward kernel is taken, and the times.
    fn measure(
        &self,
        client: &Client,
        data: &mut Option<Data>,
        problem: &Problem,
        direction: Direction,
    ) -> Result<(Option<Family>, Outcome)> {
        problem.dtype.check(client)?;
        if data.is_none() {
            *data = Some(Data::random(client, problem)?);
        }
        let data = data.as_ref().expect("just made");
        let default = Options::default().with_mask(problem.mask);
        let options = default.with_tuning(self.what.tuning(problem)?);
        let flops = problem.flops(direction);
        if direction == Backward {
            let call = data.backward(problem, options)?;
            return Ok((None, Outcome::of(time(client, &call), flops)));
        }
        let (inputs, call) = data.forward(problem, options)?;
        let family = forward_family(client, &inputs, &options)?;
        if self.what == Portable {
            let default = forward_family(client, &inputs, &default)?;
            ensure!(default != Family::Portable, "the library takes it anyway");
        }
        Ok((Some(family), Outcome::of(time(client, &call), flops)))
    }

    fn record(
        &self,
        client: &Client,
        differential: &Problem,
        direction: Direction,
        measured: Result<(Option<Family>, Outcome)>,
    ) -> Record {
        let refused = |error| (None, Outcome::skipped(&format!("{error:#}")));
        let (family, outcome) = measured.unwrap_or_else(refused);
        Record {
            provider: self.what.provider().into(),
            model: self.model.name,
            shape: Shape::of(differential),
            dtype: self.dtype.to_string(),
            pass: pass(direction),
            device: device::describe(client),
            family: family.map(|family| family.to_string()),
            outcome,
        }
    }
}
