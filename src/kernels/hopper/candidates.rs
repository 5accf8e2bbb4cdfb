//! Every setting that a pass can be launched with, for those who measure.

use super::backward::keys::shape::KeysShape;
use super::backward::queries::shape::QueriesShape;
use super::feasible::{WHOLE_VALUES, problem_dims, problem_shape};
use super::settings::HopperSettings;
use super::table;
use crate::device::Device;
use crate::error::Result;
use crate::plan::Pass;
use crate::problem::Problem;

/// Registers of a computing thread that are worth trying: as many as the loading warpgroup can spare.
const REGISTERS: [usize; 3] = [240, 232, 160];

/// The table's row for the problem first, then every other that the device can launch.
pub(super) fn candidates(pass: Pass, problem: &Problem, device: &Device) -> Vec<HopperSettings> {
    let feasible = |settings: &HopperSettings| match pass {
        Pass::Forward => problem_shape(problem, device, Some(*settings), WHOLE_VALUES).is_ok(),
        _ => is_gradient(pass, problem, device, *settings).is_ok(),
    };
    let known = table::settings(pass, problem);
    let others = all(pass).into_iter();
    let others = others.filter(|settings| Some(*settings) != known);
    known.into_iter().chain(others).filter(feasible).collect()
}

/// Whether a gradient's kernel can be made with the settings.
fn is_gradient(
    pass: Pass,
    problem: &Problem,
    device: &Device,
    settings: HopperSettings,
) -> Result<()> {
    let dims = problem_dims(problem, device, 1)?;
    let settings = settings.of_gradient()?;
    match pass {
        Pass::QueryGradient => QueriesShape::new(dims, settings).check(device),
        _ => KeysShape::all(dims, settings, device).map(|_| ()),
    }
}

/// All settings, the widest tiles first.
fn all(pass: Pass) -> Vec<HopperSettings> {
    match pass {
        Pass::Forward => forward().collect(),
        _ => gradients().collect(),
    }
}

fn gradients() -> impl Iterator<Item = HopperSettings> {
    let tiles = (1..=8).rev().map(|n| 16 * n);
    tiles.flat_map(|tile| [2, 3].map(|n| HopperSettings::new([tile, n, n, 2, 1, 240], true, false)))
}

fn forward() -> impl Iterator<Item = HopperSettings> {
    let keys = (1..=16).rev().map(|n| 16 * n);
    let stages = keys.flat_map(|n| {
        let pairs = [[2, 2], [2, 3], [3, 2], [3, 3], [4, 4]];
        pairs.into_iter().map(move |stages| (n, stages))
    });
    let cubes = stages.flat_map(|tile| [(2, 2), (2, 1), (3, 2), (3, 1)].map(|cube| (tile, cube)));
    let registers = cubes.flat_map(|cube| REGISTERS.map(|registers| (cube, registers)));
    registers.flat_map(|(((keys, [k, v]), (consumers, cluster)), registers)| {
        let sizes = [keys, k, v, consumers, cluster, registers];
        let ways = [(true, false), (true, true), (false, false), (false, true)];
        ways.map(|(overlap, turns)| HopperSettings::new(sizes, overlap, turns))
    })
}
