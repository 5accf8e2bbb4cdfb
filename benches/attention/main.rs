//! Device time of differential attention, forward and backward, beside standard attention of the same width, the two
//! calls of standard attention that stand in for it, and cubek-attention.

mod cubek;
mod data;
mod kind;
mod ours;
mod plan;
mod report;
mod variant;

use std::cell::LazyCell;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use diff_flash_attn::{Direction, Problem};

use data::Data;
use kind::Kind;
use plan::{Plan, direction_name, label};
use report::{Measurement, Report};
use variant::Variant;

fn main() -> Result<()> {
    let plan = Plan::from_environment()?;
    let mut report = Report::new(plan.client()?, plan.json.clone());
    println!("{}", report.preamble());
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    for direction in [Direction::Forward, Direction::Backward] {
        let mut group = criterion.benchmark_group(direction_name(direction));
        group.sampling_mode(SamplingMode::Flat);
        for &problem in &plan.problems {
            bench_problem(&mut group, &mut report, &plan.kinds, direction, problem);
        }
        group.finish();
    }
    criterion.final_summary();
    report.finish()
}

/// Times the given variants on one problem; their data is made when the first of them runs.
fn bench_problem(
    group: &mut BenchmarkGroup<'_, WallTime>,
    report: &mut Report,
    kinds: &[Kind],
    direction: Direction,
    problem: Problem,
) {
    let client = report.client.clone();
    let data = LazyCell::new(|| Data::random(client, problem, direction));
    for &kind in kinds {
        if let Some(reason) = kind.refusal(&report.client, &problem, direction) {
            let (group, label) = (direction_name(direction), label(&problem));
            println!("{group}/{}/{label} SKIPPED: {reason}", kind.name());
            continue;
        }
        let id = BenchmarkId::new(kind.name(), label(&problem));
        let flops = kind.problem(problem).flops(direction);
        group.throughput(Throughput::Elements(flops));
        let make = || {
            let data = data.as_ref().map_err(|error| anyhow!("{error:#}"))?;
            let name = || format!("{} of {}", kind.name(), label(&problem));
            kind.checked(data).with_context(name)
        };
        let times = bench_variant(group, report, id, make);
        report.add(Measurement {
            kind,
            direction,
            problem,
            times,
        });
    }
}

/// The device time of every iteration; none if criterion's filter leaves the variant out.
fn bench_variant(
    group: &mut BenchmarkGroup<'_, WallTime>,
    report: &Report,
    id: BenchmarkId,
    make: impl Fn() -> Result<Variant>,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut made = None;
    group.bench_function(id, |bencher| {
        let variant = made.get_or_insert_with(|| report.or_exit(make()));
        bencher.iter_custom(|iterations| {
            let start = times.len();
            for _ in 0..iterations {
                times.push(report.or_exit(variant.device_time(&report.client)));
            }
            times[start..].iter().sum()
        });
    });
    times
}
