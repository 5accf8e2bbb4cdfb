//! What one run measured: the ratios that matter in a table, the raw times in a file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use cubecl::prelude::Client;
use diff_flash_attn::{Direction, Mask, Problem, device};
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::plan::{direction_name, label, mask_name};

const EXPLANATION: &str = "\
elem/s is FLOP/s: the operations that the problem needs, two for a multiply-add, masked pairs left out.
differential     one call for both maps
standard         one call, one map, the same model width: 2H heads, values of dv/2
two-calls        standard attention once for each map; combining the results is not timed
cubek-attention  as two-calls, with cubek-attention's routine Unit";

/// Iterations of a measurement that the file keeps at most.
const KEPT: usize = 100;

/// All iterations of one variant on one problem.
pub(crate) struct Measurement {
    pub(crate) kind: Kind,
    pub(crate) direction: Direction,
    /// The differential problem.
    pub(crate) problem: Problem,
    /// Device time of each iteration, warm-up included.
    pub(crate) times: Vec<Duration>,
}

impl Measurement {
    fn flops(&self) -> u64 {
        self.kind.problem(self.problem).flops(self.direction)
    }

    /// Median in seconds; of an even number of times the greater of the two in the middle.
    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }

    fn json(&self) -> Value {
        let problem = &self.problem;
        let kept = self.times.iter().step_by(self.times.len().div_ceil(KEPT));
        let nanoseconds = kept.map(|time| time.as_nanos() as u64);
        json!({
            "direction": direction_name(self.direction),
            "variant": self.kind.name(),
            "batch": problem.batch,
            "heads": problem.heads,
            "length": problem.query_len,
            "head_dim": problem.head_dim,
            "value_dim": problem.value_dim,
            "dtype": problem.dtype.to_string(),
            "mask": mask_name(problem.mask),
            "flops": self.flops(),
            "iterations": self.times.len(),
            "median": self.median() * 1e9,
            "nanoseconds": nanoseconds.collect::<Vec<_>>(),
        })
    }
}

/// The device and what was measured on it.
pub(crate) struct Report {
    pub(crate) client: Client,
    json: Option<PathBuf>,
    measurements: Vec<Measurement>,
}

impl Report {
    pub(crate) fn new(client: Client, json: Option<PathBuf>) -> Self {
        Self {
            client,
            json,
            measurements: Vec::new(),
        }
    }

    /// Adds a measurement, unless the filter left it out.
    pub(crate) fn add(&mut self, measurement: Measurement) {
        if !measurement.times.is_empty() {
            self.measurements.push(measurement);
        }
    }

    /// Where and how it is measured.
    pub(crate) fn preamble(&self) -> String {
        let device = device::describe(&self.client);
        format!("{device}\n{}\n{EXPLANATION}\n", self.timing())
    }

    /// The value, or the end of the run: what was measured before is reported first.
    pub(crate) fn or_exit<T>(&self, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            let reported = self.finish();
            eprintln!("FAILED: {error:#}");
            if let Err(error) = reported {
                eprintln!("{error:#}");
            }
            std::process::exit(1)
        })
    }

    /// Prints the table and writes the file.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.measurements.is_empty() {
            return Ok(());
        }
        println!(
            "\nTime of the differential variant (median), divided by that of others in this run\n{}",
            self.table()
        );
        let Some(path) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string(&self.json())?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    fn timing(&self) -> String {
        let method = self.client.properties().timing_method;
        format!("time by the clock of: {method}")
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "direction",
            "problem",
            "ms",
            "GFLOP/s",
            "/ two-calls",
            "/ cubek",
            "/ standard",
            "/ full",
            "/ forward",
        ]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let ours = |measurement: &&Measurement| measurement.kind == Kind::Differential;
        table.add_rows(
            self.measurements
                .iter()
                .filter(ours)
                .map(|row| self.row(row)),
        );
        table
    }

    fn row(&self, ours: &Measurement) -> [String; 9] {
        let Measurement {
            direction, problem, ..
        } = *ours;
        let full = problem.with_mask(Mask::None);
        let other = |kind| self.ratio(ours, kind, direction, problem);
        [
            direction_name(direction).into(),
            label(&problem),
            format!("{:.3}", ours.median() * 1e3),
            format!("{:.1}", ours.flops() as f64 / ours.median() * 1e-9),
            other(Kind::TwoCalls),
            other(Kind::Cubek),
            other(Kind::Standard),
            self.ratio(ours, Kind::Differential, direction, full),
            self.ratio(ours, Kind::Differential, Direction::Forward, problem),
        ]
    }

    /// The time of `ours` by that of another measurement; nothing if that is itself or was not made.
    fn ratio(
        &self,
        ours: &Measurement,
        kind: Kind,
        direction: Direction,
        problem: Problem,
    ) -> String {
        let wanted = (kind, direction, problem);
        if wanted == (ours.kind, ours.direction, ours.problem) {
            return String::new();
        }
        self.measurements
            .iter()
            .find(|other| (other.kind, other.direction, other.problem) == wanted)
            .map_or_else(String::new, |other| {
                format!("{:.2}", ours.median() / other.median())
            })
    }

    fn json(&self) -> Value {
        json!({
            "crate": concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")),
            "device": device::describe(&self.client),
            "clock": self.client.properties().timing_method.to_string(),
            "measurements": self.measurements.iter().map(Measurement::json).collect::<Vec<_>>(),
        })
    }
}
