//! The statistics of the query rows, `[planes, B, H, Nq]` in `f32`: what each plane holds, and how a row is read and
//! written.

use cubecl::prelude::*;

use crate::kernels::work::Work;

/// Which plane holds what: log-sum-exp of each map, then δ of each map, and with two maps λ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Planes {
    pub maps: usize,
}

impl Planes {
    /// Number of planes.
    pub(crate) const fn count(self) -> usize {
        if self.maps == 2 { 5 } else { 2 }
    }

    /// Plane of a map's log-sum-exp.
    pub(crate) const fn lse(self, map: usize) -> usize {
        map
    }

    /// Plane of a map's δ.
    pub(crate) const fn delta(self, map: usize) -> usize {
        self.maps + map
    }

    /// Plane of λ, of two maps.
    pub(crate) const fn lambda(self) -> usize {
        2 * self.maps
    }
}

/// Statistics of one query: log-sum-exp and δ of each map, and λ. What one map lacks is zero.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Differential {
    pub lse: f32,
    pub delta: f32,
    pub noise_lse: f32,
    pub noise_delta: f32,
    pub lambda: f32,
}

/// Where the statistics of a cube's sequence lie.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Statistics {
    /// Queries of a sequence.
    len: usize,
    /// Elements from plane to plane.
    plane: usize,
}

#[cube]
impl Statistics {
    /// Those of sequences of `len` queries.
    pub fn of(work: &Work, len: usize) -> Statistics {
        Statistics {
            len,
            plane: work.lines() * len,
        }
    }

    /// Element of a query in each plane, from the number of its line.
    pub fn at(&self, line: usize, query: usize) -> usize {
        line * self.len + query
    }

    /// Reads element `at` of every plane.
    pub fn read(&self, statistics: &[f32], at: usize, #[comptime] planes: Planes) -> Differential {
        if comptime!(planes.maps == 2) {
            Differential {
                lse: statistics[comptime!(planes.lse(0)) * self.plane + at],
                noise_lse: statistics[comptime!(planes.lse(1)) * self.plane + at],
                delta: statistics[comptime!(planes.delta(0)) * self.plane + at],
                noise_delta: statistics[comptime!(planes.delta(1)) * self.plane + at],
                lambda: statistics[comptime!(planes.lambda()) * self.plane + at],
            }
        } else {
            Differential {
                lse: statistics[comptime!(planes.lse(0)) * self.plane + at],
                noise_lse: 0.0f32.runtime(),
                delta: statistics[comptime!(planes.delta(0)) * self.plane + at],
                noise_delta: 0.0f32.runtime(),
                lambda: 0.0f32.runtime(),
            }
        }
    }

    /// Writes element `at` of every plane.
    pub fn write(
        &self,
        statistics: &mut [f32],
        at: usize,
        row: &Differential,
        #[comptime] planes: Planes,
    ) {
        statistics[comptime!(planes.lse(0)) * self.plane + at] = row.lse;
        statistics[comptime!(planes.delta(0)) * self.plane + at] = row.delta;
        if comptime!(planes.maps == 2) {
            statistics[comptime!(planes.lse(1)) * self.plane + at] = row.noise_lse;
            statistics[comptime!(planes.delta(1)) * self.plane + at] = row.noise_delta;
            statistics[comptime!(planes.lambda()) * self.plane + at] = row.lambda;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plane_holds_one_thing() {
        for maps in [1, 2] {
            let planes = Planes { maps };
            let of_maps = (0..maps).flat_map(|map| [planes.lse(map), planes.delta(map)]);
            let lambda = (maps == 2).then(|| planes.lambda());
            let mut all: Vec<usize> = of_maps.chain(lambda).collect();
            all.sort_unstable();
            assert_eq!(all, (0..planes.count()).collect::<Vec<_>>());
        }
    }
}
