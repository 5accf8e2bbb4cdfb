//! What is measured, from environment variables: device, sizes, types, masks, variants.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use cubecl::prelude::Client;
use diff_flash_attn::{DType, Direction, Mask, Problem, device};

use crate::kind::Kind;

/// Everything that the environment decides.
pub(crate) struct Plan {
    device: String,
    pub(crate) problems: Vec<Problem>,
    pub(crate) kinds: Vec<Kind>,
    /// Where the raw times go.
    pub(crate) json: Option<PathBuf>,
}

impl Plan {
    /// Reads the variables, each a list separated by commas where that makes sense, with a default for each.
    pub(crate) fn from_environment() -> Result<Self> {
        let problem = problem(variable("DIFF_BENCH_HEADS", "4", size)?).with_batch(variable(
            "DIFF_BENCH_BATCH",
            "1",
            size,
        )?);
        let dtypes = list("DIFF_BENCH_DTYPE", "f32", dtype)?;
        let dims = list("DIFF_BENCH_DIMS", "64x64,64x128", head_dims)?;
        let lengths = list("DIFF_BENCH_SEQ", "1024", size)?;
        let masks = list("DIFF_BENCH_MASK", "full,causal", mask)?;
        let mut problems = vec![problem];
        vary(&mut problems, &dtypes, |problem, &dtype| {
            problem.dtype = dtype;
        });
        vary(&mut problems, &dims, |problem, &[head, value]| {
            (problem.head_dim, problem.value_dim) = (head, value);
            problem.scale = (head as f32).sqrt().recip();
        });
        vary(&mut problems, &lengths, |problem, &length| {
            (problem.query_len, problem.key_len) = (length, length);
        });
        vary(&mut problems, &masks, |problem, &mask| problem.mask = mask);
        Ok(Self {
            device: text("DIFF_BENCH_DEVICE", "default"),
            problems,
            kinds: list("DIFF_BENCH_VARIANTS", &Kind::names(), Kind::parse)?,
            json: std::env::var_os("DIFF_BENCH_JSON").map(PathBuf::from),
        })
    }

    /// The device asked for.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(match self.device.as_str() {
            "default" => device::default_client()?,
            #[cfg(feature = "wgpu")]
            "wgpu" => device::wgpu()?,
            #[cfg(feature = "cuda")]
            "cuda" => device::cuda(0)?,
            other => bail!("DIFF_BENCH_DEVICE: {other} is no device of this build (--features)"),
        })
    }
}

/// The name of a problem in criterion's identifiers.
pub(crate) fn label(problem: &Problem) -> String {
    format!(
        "B{}-H{}-N{}-d{}-dv{}-{}-{}",
        problem.batch,
        problem.heads,
        problem.query_len,
        problem.head_dim,
        problem.value_dim,
        problem.dtype,
        mask_name(problem.mask),
    )
}

/// The name of a direction: criterion's group.
pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Backward => "backward",
    }
}

/// The name of a mask.
pub(crate) fn mask_name(mask: Mask) -> &'static str {
    match mask {
        Mask::None => "full",
        Mask::Causal => "causal",
        Mask::Window { .. } => "window",
    }
}

/// What every problem has in common.
fn problem(heads: usize) -> Problem {
    Problem::differential([1, 0, 0], [heads, heads], [0, 0]).with_scale(0.0)
}

/// Every problem with every value set in it.
fn vary<T>(problems: &mut Vec<Problem>, values: &[T], set: impl Fn(&mut Problem, &T)) {
    *problems = problems
        .iter()
        .flat_map(|&problem| {
            values.iter().map({
                let set = &set;
                move |value| {
                    let mut problem = problem;
                    set(&mut problem, value);
                    problem
                }
            })
        })
        .collect();
}

fn text(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

fn variable<T>(name: &str, default: &str, parse: impl Fn(&str) -> Result<T>) -> Result<T> {
    let text = text(name, default);
    parse(text.trim()).with_context(|| format!("{name}={text}"))
}

fn list<T>(name: &str, default: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let all = |text: &str| text.split(',').map(|item| parse(item.trim())).collect();
    variable(name, default, all)
}

fn size(text: &str) -> Result<usize> {
    match text.parse()? {
        0 => bail!("expected at least 1"),
        size => Ok(size),
    }
}

/// `64x128` is d = 64, dv = 128. Standard attention of the same width has values of dv/2.
fn head_dims(text: &str) -> Result<[usize; 2]> {
    let (head, value) = text
        .split_once('x')
        .context("expected dxdv, as in 64x128")?;
    let (head, value) = (size(head)?, size(value)?);
    if !value.is_multiple_of(16) {
        bail!("dv is {value}, expected a multiple of 16");
    }
    Ok([head, value])
}

fn dtype(text: &str) -> Result<DType> {
    [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .find(|dtype| dtype.to_string() == text)
        .ok_or_else(|| anyhow!("expected f32, f16 or bf16, got {text}"))
}

fn mask(text: &str) -> Result<Mask> {
    [Mask::None, Mask::Causal]
        .into_iter()
        .find(|mask| mask_name(*mask) == text)
        .ok_or_else(|| anyhow!("expected full or causal, got {text}"))
}
