//! Which settings a pass gets, and what a device refuses of them.

use super::settings::PortableSettings;
use super::table;
use super::tile::Tile;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::plan::Pass;
use crate::problem::Problem;

/// The settings for a pass and their tile: those asked for, or the first of the table that the device has the shared
/// memory for.
pub(super) fn choose(
    pass: Pass,
    problem: &Problem,
    device: &Device,
    asked: Option<PortableSettings>,
    shared_memory: impl Fn(Tile) -> usize,
) -> Result<(PortableSettings, Tile)> {
    let fit = |settings: PortableSettings| {
        let tile = settings.tile(device)?;
        let bytes = shared_memory(tile);
        device.check("bytes of shared memory", bytes, device.shared_memory)?;
        Ok((settings, tile))
    };
    if let Some(settings) = asked {
        return fit(settings);
    }
    let mut refusal = None;
    for settings in table::rows(device.class, pass, problem) {
        match fit(settings.adapted(device)) {
            Ok(fitting) => return Ok(fitting),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::Settings {
        settings: format!("table for the {pass} kernel"),
        problem: format!(
            "no row for head dimensions {} and {}",
            problem.head_dim, problem.value_dim
        ),
    }))
}

/// Refuses a launch in which a unit loops longer than the device lets it: over the `len` rows of the other operand, or
/// those of them that a window lets it see, a tile at a time.
pub(super) fn check_loops(
    device: &Device,
    problem: &Problem,
    tile: Tile,
    len: usize,
    tile_loops: usize,
) -> Result<()> {
    let (left, right) = problem.mask.sides();
    let span = match (left, right) {
        (Some(left), Some(right)) => left.saturating_add(right).saturating_add(tile.tile_rows()),
        _ => len,
    };
    let tiles = len.min(span).div_ceil(tile.tile_cols()) + 1;
    let loops = tiles.saturating_mul(tile_loops);
    device.check("loop iterations of a unit", loops, device.loops)
}
