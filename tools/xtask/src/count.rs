//! What kernels execute and move, counted in the PTX simulator: the same numbers in every run.

mod case;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use checks::catalogue::{Entry, PUBLISHED, entries};
use cuda_device::{Arch, Nvrtc};
use diff_flash_attn::DType;
use diff_flash_attn::tuning::{Family, shipped};
use serde_json::json;
use simulator::Counting;

use crate::setup;
use case::{Case, Counted};

/// What to count.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The GPU that is simulated.
    #[arg(long, value_enum, default_value_t = Arch::Sm90a)]
    arch: Arch,
    /// Only calls with this text in their name: `hopper d64 dv128 bf16 differential causal norm` for example.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Queries and keys.
    #[arg(long, default_value_t = 256)]
    length: usize,
    /// Query heads and heads of keys and values.
    #[arg(long, num_args = 2, default_values_t = [2, 1])]
    heads: Vec<usize>,
    /// Also write the counts to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Counts every call that is chosen.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let nvrtc = Nvrtc::open(&setup::cuda_wheels()?)?;
    let device = Counting::new(options.arch, nvrtc)?;
    let mut counted: Vec<Counted> = Vec::new();
    for case in cases(options) {
        let what = case.to_string();
        counted.extend(case.count(&device).with_context(|| what)?);
    }
    ensure!(
        !counted.is_empty(),
        "no call is named so, or none is for this GPU"
    );
    let arch = options.arch.to_string();
    println!("{}", table::tables(&counted, &arch));
    if let Some(file) = &options.json {
        let launches: Vec<_> = counted.iter().map(|it| table::json(it, &arch)).collect();
        let all = json!({"arch": arch, "length": options.length, "launches": launches});
        let cannot = || format!("cannot write {}", file.display());
        std::fs::write(file, format!("{all:#}\n")).with_context(cannot)?;
    }
    Ok(true)
}

/// The catalogue's calls in bf16, of published dimensions, with tensors that begin their buffers.
fn cases(options: &Options) -> Vec<Case> {
    let mut families = vec![Family::Portable];
    for family in shipped().map(|row| row.settings.family()) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let entries = families.into_iter().flat_map(entries);
    let mut cases: Vec<Case> = entries
        .filter(chosen)
        .map(|entry| Case::new(entry, options.length, [options.heads[0], options.heads[1]]))
        .collect();
    cases.retain(|case| case.to_string().contains(&options.filter));
    cases
}

fn chosen(entry: &Entry) -> bool {
    let p = &entry.problem;
    let published = PUBLISHED.contains(&[p.head_dim, p.value_dim]);
    published && p.dtype == DType::BF16 && entry.offset == 0
}
