//! Every setting that a pass can be launched with, for those who measure.

use super::feasible::{WHOLE_VALUES, problem_shape};
use super::settings::HopperSettings;
use super::table;
use crate::device::Device;
use crate::plan::Pass;
use crate::problem::Problem;

/// Registers of a computing thread that are worth trying: as many as the loading warpgroup can spare.
const REGISTERS: [usize; 3] = [240, 232, 160];

/// The table's row for the problem first, then every other that the device can launch.
pub(super) fn candidates(pass: Pass, problem: &Problem, device: &Device) -> Vec<HopperSettings> {
    if pass != Pass::Forward {
        return vec![];
    }
    let feasible = |settings: &HopperSettings| {
        problem_shape(problem, device, Some(*settings), WHOLE_VALUES).is_ok()
    };
    let known = table::settings(problem);
    let others = all().filter(|settings| Some(*settings) != known);
    known.into_iter().chain(others).filter(feasible).collect()
}

/// All settings, the widest tiles first.
fn all() -> impl Iterator<Item = HopperSettings> {
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
