//! Every setting that a pass can be launched with, for those who measure.

use super::backward::shape::GradientShape;
use super::backward::{key_value, query};
use super::forward::shape::ForwardShape;
use super::limits;
use super::settings::{Plane, PortableSettings};
use super::table;
use crate::device::Device;
use crate::plan::Pass;
use crate::problem::Problem;

/// Sizes that are worth trying. A unit of more rows or columns spills on every device, more units no device has.
const ROWS: [usize; 7] = [1, 2, 3, 4, 5, 6, 8];
const COLS: [usize; 4] = [4, 8, 12, 16];
const UNITS_Y: [usize; 7] = [3, 4, 6, 8, 12, 16, 32];
const UNITS_X: [usize; 5] = [1, 2, 4, 8, 16];
const CHUNKS: [usize; 4] = [8, 16, 32, 64];

/// The table's rows for the problem first, best known first, then every other that the device can launch.
pub(super) fn candidates(pass: Pass, problem: &Problem, device: &Device) -> Vec<PortableSettings> {
    let feasible = |settings: &PortableSettings| feasible(pass, problem, device, *settings);
    let known = table::rows(device.class, pass, problem).map(|row| row.adapted(device));
    let known: Vec<_> = known.filter(feasible).collect();
    let others = all(device).filter(|settings| !known.contains(settings));
    let others: Vec<_> = others.filter(feasible).collect();
    [known, others].concat()
}

/// All sizes in all ways to use planes that the device has.
fn all(device: &Device) -> impl Iterator<Item = PortableSettings> {
    let ways: &[Plane] = match (device.planes, device.plane_min == device.plane_max) {
        (true, true) => &[Plane::Reduce, Plane::Broadcast, Plane::Unused],
        (true, false) => &[Plane::Reduce, Plane::Unused],
        (false, _) => &[Plane::Unused],
    };
    let tiles = ROWS.iter().flat_map(|r| COLS.iter().map(move |c| [*r, *c]));
    let tiles = tiles.flat_map(|tile| UNITS_Y.iter().map(move |y| (tile, *y)));
    tiles.flat_map(move |(tile, y)| ways.iter().flat_map(move |way| settings(tile, y, *way)))
}

fn settings(
    [rows, cols]: [usize; 2],
    units_y: usize,
    plane: Plane,
) -> impl Iterator<Item = PortableSettings> {
    let (units, chunks): (&[usize], &[usize]) = match plane {
        Plane::Broadcast => (&[1], &[0]),
        _ => (&UNITS_X, &CHUNKS),
    };
    let sizes = units
        .iter()
        .flat_map(|x| chunks.iter().map(move |chunk| [*x, *chunk]));
    sizes.map(move |[x, chunk]| PortableSettings::new([rows, cols, units_y, x, chunk], plane))
}

fn feasible(pass: Pass, problem: &Problem, device: &Device, settings: PortableSettings) -> bool {
    let asked = Some(settings);
    let choose = |bytes: &dyn Fn(_) -> usize| limits::choose(pass, problem, device, asked, bytes);
    let (tile, len, loops) = match pass {
        Pass::Forward => {
            let shape = |tile| ForwardShape::of(problem, tile);
            let Ok((_, tile)) = choose(&|tile| shape(tile).shared_memory()) else {
                return false;
            };
            (tile, problem.key_len, shape(tile).tile_loops())
        }
        Pass::QueryGradient => {
            let shape = |tile| GradientShape::of(problem, tile);
            let Ok((_, tile)) = choose(&|tile| query::shared_memory(&shape(tile))) else {
                return false;
            };
            (tile, problem.key_len, shape(tile).tile_loops())
        }
        Pass::KeyValueGradient => {
            let shape = |tile| GradientShape::of(problem, tile);
            let Ok((_, tile)) = choose(&|tile| key_value::shared_memory(&shape(tile))) else {
                return false;
            };
            let loops = problem.group() * key_value::tile_loops(&shape(tile));
            (tile, problem.query_len, loops)
        }
    };
    limits::check_loops(device, problem, tile, len, loops).is_ok()
}
