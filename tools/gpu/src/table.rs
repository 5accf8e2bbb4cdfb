//! The short table: what differential attention takes, and how that compares with what stands beside it in the run.

use comfy_table::{Table, presets};

use crate::record::{Outcome, Record, Results};

/// A row for every call of differential attention by the kernel that the library takes.
pub(crate) fn render(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let titles = [
        "model",
        "device",
        "pass",
        "mask",
        "B×N",
        "type",
        "kernel",
        "ms",
        "TFLOP/s",
        "/ portable",
        "/ no overlap",
        "/ standard",
    ];
    table.set_header(titles);
    let ours = results
        .results
        .iter()
        .filter(|record| record.provider == "ours");
    for record in ours {
        table.add_row(cells(record, results));
    }
    table.to_string()
}

fn cells(record: &Record, results: &Results) -> Vec<String> {
    let shape = &record.shape;
    let mask = match (shape.window, shape.causal) {
        (0, true) => "causal".into(),
        (0, false) => "full".into(),
        (window, _) => format!("window {window}"),
    };
    let runtime = record.device.split(' ').next().unwrap_or_default();
    let mut cells = vec![
        record.model.to_string(),
        runtime.to_string(),
        record.pass.to_string(),
        mask,
        format!("{}×{}", shape.B, shape.Nq),
        record.dtype.clone(),
        record.family.clone().unwrap_or_default(),
    ];
    match &record.outcome {
        Outcome::Timed {
            median_ms,
            tflops_nominal,
            ..
        } => cells.extend([
            digits(*median_ms),
            digits(*tflops_nominal),
            ratio(record, results, "ours_portable"),
            ratio(record, results, "ours_no_overlap"),
            ratio(record, results, "ours_standard"),
        ]),
        Outcome::Skipped { skipped } => {
            cells.extend([const { String::new() }; 5]);
            cells.push(format!("skipped: {skipped}"));
        }
    }
    cells
}

/// Three digits, and those before the point.
fn digits(x: f64) -> String {
    let places = (2.0 - x.log10().floor()).clamp(0.0, 6.0);
    format!("{x:.*}", places as usize)
}

/// Time of a record divided by that of another provider for the same.
fn ratio(record: &Record, results: &Results, provider: &str) -> String {
    let same = |other: &&Record| {
        other.provider == provider
            && (other.shape, &other.dtype, other.pass, &other.device)
                == (record.shape, &record.dtype, record.pass, &record.device)
    };
    let other = results
        .results
        .iter()
        .find(same)
        .and_then(|r| r.outcome.median());
    match (record.outcome.median(), other) {
        (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
        _ => String::new(),
    }
}
