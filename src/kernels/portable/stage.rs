//! Operands on their way from global to shared memory, as `f32`, zero where there is nothing.

use cubecl::prelude::*;

use super::tile::{Tile, resident_pitch};
use crate::math::F4;
use crate::math::layout::{Strides, load4};

/// Consecutive sequence positions of one head of a tensor.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Rows {
    /// Element of sequence position 0, map 0.
    pub start: usize,
    /// Elements between sequence positions.
    pub stride: usize,
    /// Elements between maps, or between the halves of a value.
    pub pair: usize,
    /// First position.
    pub first: usize,
    /// Positions from here on read as zero.
    pub end: usize,
}

#[cube]
impl Rows {
    /// The positions `first..` of one head, of `end` that exist.
    pub fn of(at: &Strides, batch: usize, head: usize, first: usize, end: usize) -> Rows {
        Rows {
            start: at.start(batch, head),
            stride: at.seq as usize,
            pair: at.pair as usize,
            first,
            end,
        }
    }

    /// The same positions of map `map` alone.
    pub fn of_map(&self, #[comptime] map: usize) -> Rows {
        Rows {
            start: self.start + map * self.pair,
            stride: self.stride,
            pair: self.pair,
            first: self.first,
            end: self.end,
        }
    }

    /// Element where sequence position `position` of map `map` begins.
    pub fn at(&self, position: usize, map: usize) -> usize {
        self.start + position * self.stride + map * self.pair
    }
}

/// Comptime shape of an operand's last axis, in vectors of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Axis {
    pub dim4: usize,
    /// Two halves, [`Rows::pair`] elements apart, instead of one piece.
    pub halves: bool,
    /// Maps, [`Rows::pair`] elements apart. Only one if there are halves.
    pub maps: usize,
}

impl Axis {
    pub(crate) const fn maps(dim4: usize, maps: usize) -> Self {
        Axis {
            dim4,
            halves: false,
            maps,
        }
    }

    pub(crate) const fn halves(dim4: usize) -> Self {
        Axis {
            dim4,
            halves: true,
            maps: 1,
        }
    }

    pub(crate) const fn whole(dim4: usize) -> Self {
        Axis {
            dim4,
            halves: false,
            maps: 1,
        }
    }
}

/// Vector `column4` of a row that begins at `row`.
#[cube]
pub(crate) fn column_at(row: usize, column4: usize, pair: usize, #[comptime] axis: Axis) -> usize {
    let mut at = row + column4 * 4;
    if comptime!(axis.halves) {
        let half4 = comptime!(axis.dim4 / 2);
        if column4 >= half4 {
            at = at + pair - comptime!(half4 * 4);
        }
    }
    at
}

/// Copies `n_rows × width4` vectors from column `first4` on, of one map, times `factor`.
#[cube]
fn copy<F: Float, N: Size>(
    source: &[Vector<F, N>],
    rows: &Rows,
    map: usize,
    first4: usize,
    factor: f32,
    target: &mut Shared<[F4]>,
    target_start: usize,
    #[comptime] n_rows: usize,
    #[comptime] width4: usize,
    #[comptime] pitch: usize,
    #[comptime] axis: Axis,
    #[comptime] units: usize,
) {
    if comptime!(units.is_multiple_of(width4)) {
        // A unit keeps its column: of all that it copies only the row differs, by a constant.
        let column = UNIT_POS as usize % width4;
        let first = UNIT_POS as usize / width4;
        for row in range_stepped(first, n_rows, comptime!(units / width4)) {
            copy_vector(
                source,
                rows,
                map,
                row,
                column,
                first4,
                factor,
                target,
                target_start,
                pitch,
                axis,
            );
        }
    } else {
        for i in range_stepped(UNIT_POS as usize, n_rows * width4, units) {
            copy_vector(
                source,
                rows,
                map,
                i / width4,
                i % width4,
                first4,
                factor,
                target,
                target_start,
                pitch,
                axis,
            );
        }
    }
}

/// Copies vector `first4 + column` of row `row` to column `column`.
#[cube]
fn copy_vector<F: Float, N: Size>(
    source: &[Vector<F, N>],
    rows: &Rows,
    map: usize,
    row: usize,
    column: usize,
    first4: usize,
    factor: f32,
    target: &mut Shared<[F4]>,
    target_start: usize,
    #[comptime] pitch: usize,
    #[comptime] axis: Axis,
) {
    let position = rows.first + row;
    let column4 = first4 + column;
    let mut value = F4::new(0.0);
    if position < rows.end && column4 < axis.dim4 {
        let at = column_at(rows.at(position, map), column4, rows.pair, axis);
        value = load4(source, at) * F4::new(factor);
    }
    target[target_start + row * pitch + column] = value;
}

/// Brings an operand that stays for the whole kernel: `[maps][tile_rows][dim4]`, times `factor`.
#[cube]
pub(crate) fn stage_resident<F: Float, N: Size>(
    source: &[Vector<F, N>],
    rows: &Rows,
    factor: f32,
    target: &mut Shared<[F4]>,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    #[unroll]
    for m in 0..axis.maps {
        let start = comptime!(m * tile.resident_len(axis.dim4)).runtime();
        let pitch = comptime!(resident_pitch(axis.dim4));
        let n_rows = comptime!(tile.tile_rows());
        let units = comptime!(tile.units());
        copy(
            source, rows, m, 0, factor, target, start, n_rows, axis.dim4, pitch, axis, units,
        );
    }
    // Units read each other's part.
    sync_cube();
}

/// Brings one chunk of a streamed operand, `[maps][tile_cols][chunk4]`, times `factor`, once no unit needs the
/// previous one.
#[cube]
pub(crate) fn stage_chunk<F: Float, N: Size>(
    source: &[Vector<F, N>],
    rows: &Rows,
    first4: usize,
    factor: f32,
    target: &mut Shared<[F4]>,
    #[comptime] axis: Axis,
    #[comptime] tile: Tile,
) {
    sync_cube();
    #[unroll]
    for m in 0..axis.maps {
        let start = comptime!(m * tile.chunk_len(1)).runtime();
        let pitch = comptime!(tile.chunk_pitch());
        let n_rows = comptime!(tile.tile_cols());
        let units = comptime!(tile.units());
        copy(
            source,
            rows,
            m,
            first4,
            factor,
            target,
            start,
            n_rows,
            tile.chunk4,
            pitch,
            axis,
            units,
        );
    }
    sync_cube();
}
