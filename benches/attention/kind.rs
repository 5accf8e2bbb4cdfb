//! Who computes what, and whether it is right.

use anyhow::{Result, anyhow, bail, ensure};
use cubecl::prelude::Client;
use diff_flash_attn::{DType, Direction, Problem};

use crate::data::{Data, elem};
use crate::variant::{Results, Variant};
use crate::{cubek, ours};

/// Who computes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This crate's differential attention.
    Differential,
    /// This crate's standard attention of the same model width: 2H heads with values of dv/2.
    Standard,
    /// This crate's standard attention, once for each map with all of the value.
    TwoCalls,
    /// cubek-attention's routine `Unit`, once for each map with all of the value.
    Cubek,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::Differential,
        Self::Standard,
        Self::TwoCalls,
        Self::Cubek,
    ];

    /// Its name in criterion's identifiers and in the environment.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Standard => "standard",
            Self::TwoCalls => "two-calls",
            Self::Cubek => "cubek-attention",
        }
    }

    /// All names, separated by commas.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(",")
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| anyhow!("expected one of {}, got {name}", Self::names()))
    }

    /// What it solves, given the differential problem.
    pub(crate) fn problem(self, differential: Problem) -> Problem {
        match self {
            Self::Standard => differential
                .with_heads([2 * differential.heads, 2 * differential.kv_heads])
                .with_dims([differential.head_dim, differential.value_dim / 2])
                .with_maps(1),
            _ => differential,
        }
    }

    /// Why it cannot be timed on this problem, if so.
    pub(crate) fn refusal(
        self,
        client: &Client,
        problem: &Problem,
        direction: Direction,
    ) -> Option<String> {
        let (properties, dtype) = (client.properties(), problem.dtype);
        if !properties.supports_type(elem(dtype)) {
            let device = &properties.identity.name;
            return Some(format!("{dtype} is not supported by {device}"));
        }
        match self {
            Self::Cubek => cubek::refusal(client, problem, direction),
            _ => None,
        }
    }

    /// The variant, run once and compared: nothing wrong is timed.
    pub(crate) fn checked(self, data: &Data) -> Result<Variant> {
        let variant = self.build(data)?;
        variant.run()?;
        let results = variant.read(&data.client)?;
        check_finite(&results)?;
        if matches!(self, Self::Differential | Self::Cubek) {
            let expected = data.expected(|| {
                let two_calls = Self::TwoCalls.build(data)?;
                two_calls.run()?;
                two_calls.read(&data.client)
            })?;
            check_agreement(&results, expected, data.problem.dtype)?;
        }
        Ok(variant)
    }

    fn build(self, data: &Data) -> Result<Variant> {
        match self {
            Self::Differential => ours::differential(data),
            Self::Standard => ours::standard(data),
            Self::TwoCalls => ours::two_calls(data),
            Self::Cubek => cubek::two_calls(data),
        }
    }
}

fn check_finite(results: &Results) -> Result<()> {
    for (name, values) in results {
        ensure!(values.iter().all(|x| x.is_finite()), "{name} is not finite");
        ensure!(values.iter().any(|x| *x != 0.0), "{name} is all zeros");
    }
    Ok(())
}

/// Compares with what the two calls give, relative to the largest element.
fn check_agreement(results: &Results, expected: &Results, dtype: DType) -> Result<()> {
    for ((name, got), (_, expected)) in results.iter().zip(expected) {
        ensure!(got.len() == expected.len(), "{name} has another size");
        let largest = expected.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let differences = got.iter().zip(expected).map(|(x, y)| (x - y).abs());
        let relative = differences.fold(0.0, f32::max) / largest;
        if relative > tolerance(dtype) {
            bail!("{name} differs from that of two calls by {relative:.1e} of its largest element");
        }
    }
    Ok(())
}

/// 1e-4 in `f32`; 16 roundings where intermediate results are stored in less.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F16 => 16.0 * 2f32.powi(-11),
        DType::BF16 => 16.0 * 2f32.powi(-8),
    }
}
