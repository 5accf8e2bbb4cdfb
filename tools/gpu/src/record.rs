//! Measurements as they are written, in the form that tools/peers reads.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use diff_flash_attn::{Direction, Mask, Problem};
use serde::Serialize;

use crate::clock::Times;
use crate::machine::Machine;

/// Everything that a run measured.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) results: Vec<Record>,
}

impl Results {
    pub(crate) fn new(machine: Machine) -> Self {
        let results = vec![];
        Self { machine, results }
    }

    /// How many calls have a time.
    pub(crate) fn timed(&self) -> usize {
        let times = self
            .results
            .iter()
            .filter_map(|record| record.outcome.median());
        times.count()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

/// One call on one problem, timed or refused.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) provider: String,
    pub(crate) model: &'static str,
    pub(crate) shape: Shape,
    pub(crate) dtype: String,
    /// `fwd`, or `bwd` for the gradients alone.
    pub(crate) pass: &'static str,
    /// The line that describes the device.
    pub(crate) device: String,
    /// Which forward kernel it took, timed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<String>,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// Times, or why there are none.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Timed {
        median_ms: f64,
        p20_ms: f64,
        p80_ms: f64,
        reps: usize,
        /// Of the products that the problem needs, masked pairs left out.
        tflops_nominal: f64,
    },
    Skipped {
        skipped: String,
    },
}

impl Outcome {
    /// The times of so many floating-point operations, or why there are none.
    pub(crate) fn of(times: Result<Times>, flops: u64) -> Self {
        let times = match times {
            Ok(times) => times,
            Err(error) => return Self::skipped(&format!("{error:#}")),
        };
        Self::Timed {
            median_ms: times.median,
            p20_ms: times.p20,
            p80_ms: times.p80,
            reps: times.repeats,
            tflops_nominal: flops as f64 / times.median / 1e9,
        }
    }

    pub(crate) fn skipped(reason: &str) -> Self {
        Self::Skipped {
            skipped: reason.lines().next().unwrap_or_default().into(),
        }
    }

    pub(crate) fn median(&self) -> Option<f64> {
        match self {
            Self::Timed { median_ms, .. } => Some(*median_ms),
            Self::Skipped { .. } => None,
        }
    }
}

/// A differential problem; what stands in for it is filed under the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(non_snake_case, reason = "names of the file format")]
pub(crate) struct Shape {
    pub(crate) B: usize,
    pub(crate) Nq: usize,
    pub(crate) Nk: usize,
    pub(crate) H: usize,
    pub(crate) Hk: usize,
    pub(crate) d: usize,
    pub(crate) dv: usize,
    pub(crate) causal: bool,
    /// Keys seen, the query's own included; 0 without a window.
    pub(crate) window: usize,
    pub(crate) v2: bool,
}

impl Shape {
    pub(crate) fn of(problem: &Problem) -> Self {
        let window = match problem.mask {
            Mask::Window { left, .. } => left.map_or(0, |left| left + 1),
            _ => 0,
        };
        Self {
            B: problem.batch,
            Nq: problem.query_len,
            Nk: problem.key_len,
            H: problem.heads,
            Hk: problem.kv_heads,
            d: problem.head_dim,
            dv: problem.value_dim,
            causal: problem.mask != Mask::None,
            window,
            v2: problem.shared_key,
        }
    }
}

/// A direction's name in the file.
pub(crate) fn pass(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "fwd",
        Direction::Backward => "bwd",
    }
}
