//! Operands on their way from global to shared memory, as `f32`, zero where there is nothing.

use cubecl::prelude::*;

use super::operand::{Axis, Operand};
use super::tile::{Tile, resident_pitch};
use crate::math::F4;
use crate::math::layout::load4;

/// An operand that stays in shared memory for the whole kernel: `[maps][tile_rows][dim4]`.
#[derive(CubeType)]
pub(crate) struct Resident {
    pub vectors: Shared<[F4]>,
    #[cube(comptime)]
    pub axis: Axis,
}

#[cube]
impl Resident {
    /// Room for one.
    pub fn new(#[comptime] axis: Axis, #[comptime] tile: Tile) -> Resident {
        let vectors =
            Shared::<[F4]>::new_slice(comptime!(axis.maps * tile.resident_len(axis.dim4)));
        Resident { vectors, axis }
    }
}

/// What is copied of an operand: the vectors from `first4` on of one map, times `factor`.
#[derive(CubeType, Clone, Copy)]
struct Part {
    map: usize,
    first4: usize,
    factor: f32,
}

/// Where a copy lands: `rows × width4` vectors from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Landing {
    start: usize,
    rows: usize,
    width4: usize,
    /// Vectors from row to row.
    pitch: usize,
    /// Units that copy.
    units: usize,
}

#[cube]
fn copy<F: Float, N: Size>(
    source: &[Vector<F, N>],
    operand: &Operand,
    part: &Part,
    target: &mut Shared<[F4]>,
    #[comptime] landing: Landing,
) {
    let width4 = comptime!(landing.width4);
    let units = comptime!(landing.units);
    if comptime!(units.is_multiple_of(width4)) {
        // A unit keeps its column: of all that it copies only the row differs, by a constant.
        let column = UNIT_POS as usize % width4;
        let first = UNIT_POS as usize / width4;
        for row in range_stepped(first, landing.rows, comptime!(units / width4)) {
            copy_vector(source, operand, part, row, column, target, landing);
        }
    } else {
        for i in range_stepped(UNIT_POS as usize, landing.rows * width4, units) {
            copy_vector(
                source,
                operand,
                part,
                i / width4,
                i % width4,
                target,
                landing,
            );
        }
    }
}

/// Copies vector `column` of the part's row `row`.
#[cube]
fn copy_vector<F: Float, N: Size>(
    source: &[Vector<F, N>],
    operand: &Operand,
    part: &Part,
    row: usize,
    column: usize,
    target: &mut Shared<[F4]>,
    #[comptime] landing: Landing,
) {
    let position = operand.first + row;
    let column4 = part.first4 + column;
    let mut value = F4::new(0.0);
    if position < operand.end && column4 < comptime!(operand.axis.dim4) {
        let at = operand.column(operand.at(position, part.map), column4);
        value = load4(source, at) * F4::new(part.factor);
    }
    let start = comptime!(landing.start).runtime();
    target[start + row * landing.pitch + column] = value;
}

/// Brings an operand that stays, times `factor`.
#[cube]
pub(crate) fn stage_resident<F: Float, N: Size>(
    source: &[Vector<F, N>],
    operand: &Operand,
    factor: f32,
    target: &mut Resident,
    #[comptime] tile: Tile,
) {
    let axis = comptime!(target.axis);
    #[unroll]
    for map in 0..axis.maps {
        let landing = comptime!(Landing {
            start: map * tile.resident_len(axis.dim4),
            rows: tile.tile_rows(),
            width4: axis.dim4,
            pitch: resident_pitch(axis.dim4),
            units: tile.units(),
        });
        let part = Part {
            map: map.runtime(),
            first4: 0usize.runtime(),
            factor,
        };
        copy(source, operand, &part, &mut target.vectors, landing);
    }
    // Units read each other's part.
    sync_cube();
}

/// Brings one chunk of a streamed operand, `[maps][tile_cols][chunk4]`, times `factor`, once no unit needs the
/// previous one.
#[cube]
pub(crate) fn stage_chunk<F: Float, N: Size>(
    source: &[Vector<F, N>],
    operand: &Operand,
    first4: usize,
    factor: f32,
    target: &mut Shared<[F4]>,
    #[comptime] tile: Tile,
) {
    sync_cube();
    let maps = comptime!(operand.axis.maps);
    #[unroll]
    for map in 0..maps {
        let landing = comptime!(Landing {
            start: map * tile.chunk_len(1),
            rows: tile.tile_cols(),
            width4: tile.chunk4,
            pitch: tile.chunk_pitch(),
            units: tile.units(),
        });
        let part = Part {
            map: map.runtime(),
            first4,
            factor,
        };
        copy(source, operand, &part, target, landing);
    }
    sync_cube();
}
