//! Counting: what an instruction moves is noted before it runs, while its addresses are in registers; that it ran, after.

use super::address::{START, classify};
use super::loads::Source;
use super::{At, Cluster, lanes_of};
use crate::counts::banks::{self, Wavefronts};
use crate::counts::product::{self, Product};
use crate::counts::traffic::Way;
use crate::counts::{Counts, Pipe, Waits};
use crate::ir::*;

/// Lanes that access memory, and how.
#[derive(Clone, Copy)]
struct Access {
    space: Space,
    bytes: usize,
    way: Way,
}

impl Cluster<'_> {
    /// Notes the memory that `op` touches in the lanes of `mask`, if that is more than registers. An access through
    /// generic addresses is for the pipe that this returns.
    pub(super) fn note_memory(&mut self, at: At, mask: u32, op: &Op) -> Option<Pipe> {
        let access = |space: &Space, bytes: usize, way: Way| Access {
            space: *space,
            bytes,
            way,
        };
        match op {
            Op::Ld {
                space,
                bytes,
                addr,
                d,
            } => self.note_lanes(at, mask, addr, access(space, bytes * d.len(), Way::Read)),
            Op::St {
                space,
                bytes,
                addr,
                s,
            } => self.note_lanes(at, mask, addr, access(space, bytes * s.len(), Way::Write)),
            Op::Atom(s) => {
                let bytes = s.ty.bytes() * s.b.len();
                self.note_lanes(at, mask, &s.addr, access(&s.space, bytes, Way::Write))
            }
            op => {
                self.note_cooperation(at, mask, op);
                None
            }
        }
    }

    /// Instructions that move memory for the whole warp, or on their own.
    fn note_cooperation(&mut self, at: At, mask: u32, op: &Op) {
        match op {
            Op::Ldmatrix { d, addr, .. } => self.note_matrices(at, mask, addr, d.len(), Way::Read),
            Op::Stmatrix { s, addr, .. } => self.note_matrices(at, mask, addr, s.len(), Way::Write),
            Op::WmmaLoad(s) => self.note_wmma(at, mask, s, Way::Read),
            Op::WmmaStore(s) => self.note_wmma(at, mask, s, Way::Write),
            Op::CpAsync(s) => self.note_cp_async(at, mask, s),
            Op::BulkLoad(s) => self.note_bulk_load(at, mask, s),
            Op::BulkStore(s) => self.note_bulk_store(at, mask, s),
            _ => {}
        }
    }

    /// Notes that an instruction ran; `passed`, if its lanes go on at once.
    pub(super) fn note_done(&mut self, at: At, op: &Op, pipe: Option<Pipe>, passed: bool) {
        let first = self.warps[at.wi].in_warpgroup() == 0;
        let counts = &mut self.counts;
        let pipe = pipe.unwrap_or_else(|| Pipe::of(op));
        *counts.instructions.entry(pipe).or_default() += 1;
        match op {
            Op::Wgmma(s) if first => {
                counts.product_bytes += product::bytes_read(s);
                note_product(counts, Product::wgmma(s));
            }
            Op::Mma(s) => note_product(counts, Product::mma(s)),
            Op::Wmma(s) => note_product(counts, Product::wmma(s)),
            op => note_wait(&mut counts.waits, op, passed),
        }
    }

    /// Notes an instruction whose guard lets no lane through.
    pub(super) fn note_guarded(&mut self, op: &Op) {
        let pipe = Pipe::of(op);
        *self.counts.instructions.entry(pipe).or_default() += 1;
    }

    fn note_lanes(&mut self, at: At, mask: u32, addr: &Addr, access: Access) -> Option<Pipe> {
        let address = |l| self.address(At { l, ..at }, addr);
        let addresses: [Option<u64>; 32] =
            std::array::from_fn(|l| (mask >> l & 1 == 1).then(|| address(l)));
        let space = match access.space {
            Space::Generic => classify(address(at.l)),
            space => space,
        };
        match space {
            Space::Shared | Space::Cluster => {
                let lanes = u64::from(mask.count_ones());
                let found = banks::access(&addresses, access.bytes);
                self.note_shared(found, access.way, lanes * access.bytes as u64);
            }
            Space::Global => {
                let bytes = access.bytes as u64;
                let pieces = addresses.iter().flatten().map(|a| (*a, bytes)).collect();
                self.note_global(access.way, pieces);
            }
            _ => {}
        }
        Some(Pipe::of_space(space))
    }

    fn note_shared(&mut self, found: Wavefronts, way: Way, bytes: u64) {
        let shared = &mut self.counts.shared;
        shared.accesses += 1;
        shared.wavefronts += found.all;
        shared.conflicts += found.all - found.fewest;
        match way {
            Way::Read => shared.read += bytes,
            Way::Write => shared.written += bytes,
        }
    }

    /// Pieces of global memory, beginning and length, each to the range in which it begins.
    fn note_global(&mut self, way: Way, pieces: Vec<(u64, u64)>) {
        let ranges = self.job.launch.count.as_deref().unwrap_or_default();
        let range = |piece: &(u64, u64)| {
            let found = ranges.iter().position(|range| range.contains(&piece.0));
            found.unwrap_or(ranges.len())
        };
        for (i, traffic) in self.counts.global.iter_mut().enumerate() {
            let own = pieces.iter().copied().filter(|piece| range(piece) == i);
            traffic.note(way, &mut own.collect::<Vec<_>>());
        }
    }

    /// Whether a warp runs an instruction for which its lanes come together: not before they have.
    fn together(&self, at: At, mask: u32) -> bool {
        let w = &self.warps[at.wi];
        w.present & w.alive & !mask == 0
    }

    fn note_matrices(&mut self, at: At, mask: u32, addr: &Addr, count: usize, way: Way) {
        if !self.together(at, mask) {
            return;
        }
        let rows: Vec<_> = (0..8 * count)
            .map(|l| Some(self.address(At { l, ..at }, addr)))
            .collect();
        self.note_shared(banks::matrices(&rows), way, 16 * rows.len() as u64);
    }

    /// Which lane touches what is up to the hardware: taken for free of conflicts.
    fn note_wmma(&mut self, at: At, mask: u32, s: &WmmaCopy, way: Way) {
        let (true, Ok(lines)) = (self.together(at, mask), self.lines(at, mask, s)) else {
            return;
        };
        let Fragment {
            rows,
            columns,
            number,
            ..
        } = s.fragment;
        let bytes = (rows * columns * number.bytes()) as u64;
        let space = match s.space {
            Space::Generic => classify(lines[0]),
            space => space,
        };
        if matches!(space, Space::Shared | Space::Cluster) {
            let all = bytes.div_ceil(128);
            return self.note_shared(Wavefronts { all, fewest: all }, way, bytes);
        }
        let line = bytes / lines.len() as u64;
        self.note_global(way, lines.into_iter().map(|a| (a, line)).collect());
    }

    fn note_cp_async(&mut self, at: At, mask: u32, s: &CpAsync) {
        let ignored = s
            .ignore
            .map_or(0, |p| self.warps[at.wi].registers.predicate(p));
        let mut pieces = Vec::new();
        let mut addresses = [None; 32];
        for l in lanes_of(mask) {
            let at = At { l, ..at };
            addresses[l] = Some(self.address(at, &s.shared));
            let given = s.source_bytes.map_or(s.bytes, |n| self.reg(at, n) as usize);
            if ignored >> l & 1 == 0 {
                pieces.push((self.address(at, &s.global), given.min(s.bytes) as u64));
            }
        }
        let bytes = u64::from(mask.count_ones()) * s.bytes as u64;
        self.note_shared(banks::access(&addresses, s.bytes), Way::Write, bytes);
        self.note_global(Way::Read, pieces);
    }

    fn note_bulk_load(&mut self, at: At, mask: u32, s: &BulkLoad) {
        for l in lanes_of(mask) {
            let at = At { l, ..at };
            let Some((pieces, n)) = self.pieces(at, &s.global) else {
                continue;
            };
            let ctas = s
                .multicast
                .map_or(1, |ctas| (self.reg(at, ctas) & 0xffff).count_ones());
            self.counts.bulk_written += u64::from(ctas) * n;
            self.note_global(Way::Read, pieces);
        }
    }

    fn note_bulk_store(&mut self, at: At, mask: u32, s: &BulkStore) {
        for l in lanes_of(mask) {
            if let Some((pieces, n)) = self.pieces(At { l, ..at }, &s.global) {
                self.counts.bulk_read += n;
                self.note_global(Way::Write, pieces);
            }
        }
    }

    /// The global side of a copy, what lies outside of a tensor left out; and the bytes of the other side. None if the
    /// copy will fail.
    fn pieces(&self, at: At, bulk: &Bulk) -> Option<(Vec<(u64, u64)>, u64)> {
        let (source, n) = self.source(at, bulk).ok()?;
        let mut pieces = Vec::new();
        match source {
            Source::Tensor { map, coords } => self.job.maps[map].walk(START, &coords, |chunk| {
                if let (Some(a), false) = (chunk.global, chunk.inside.is_empty()) {
                    pieces.push((a + chunk.inside.start as u64, chunk.inside.len() as u64));
                }
            }),
            Source::Global(a) => pieces.push((a, n as u64)),
            Source::Copies(_) => {}
        }
        Some((pieces, n as u64))
    }
}

fn note_product(counts: &mut Counts, product: Product) {
    *counts.products.entry(product).or_default() += 1;
}

fn note_wait(waits: &mut Waits, op: &Op, passed: bool) {
    match op {
        Op::Bar { wait: true, .. } => waits.barrier += 1,
        Op::Bar { wait: false, .. } => waits.barrier_arrivals += 1,
        Op::Mbarrier(_, MbarrierOp::Wait { .. }) => waits.mbarrier += u64::from(passed),
        Op::Mbarrier(_, MbarrierOp::Arrive { .. }) => waits.mbarrier_arrivals += 1,
        Op::WgmmaWait(_) => waits.wgmma += 1,
        Op::CpWait(_) | Op::BulkWait { .. } => waits.copies += 1,
        Op::ClusterWait => waits.cluster += 1,
        _ => {}
    }
}
