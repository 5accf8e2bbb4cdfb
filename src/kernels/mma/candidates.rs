//! Every setting that a pass can be launched with, for those who measure.

use super::feasible::takes;
use super::settings::MmaSettings;
use super::table;
use crate::device::Device;
use crate::plan::Pass;
use crate::problem::Problem;

/// The table's rows for the problem first, then every other that the device can launch.
pub(super) fn candidates(pass: Pass, problem: &Problem, device: &Device) -> Vec<MmaSettings> {
    let known: Vec<_> = table::rows(pass, problem).collect();
    let others = all(problem.maps).filter(|settings| !known.contains(settings));
    let feasible = |settings: &MmaSettings| takes(pass, problem, device, *settings);
    let all = known.iter().copied().chain(others);
    all.filter(feasible).collect()
}

/// All settings, the widest tiles first.
fn all(maps: usize) -> impl Iterator<Item = MmaSettings> {
    let splits = if maps == 2 {
        &[false, true][..]
    } else {
        &[false]
    };
    let tiles = [128, 96, 64, 48, 32, 16].into_iter();
    let cubes = tiles.flat_map(|tile| [4, 8, 2].map(|warps| (tile, warps)));
    let staged = cubes.flat_map(|(tile, warps)| [1, 2, 3].map(|stages| [tile, warps, stages]));
    staged.flat_map(move |sizes| {
        splits
            .iter()
            .map(move |split| MmaSettings::new(sizes, *split))
    })
}
