//! The interpreter: one cluster of CTAs (usually one CTA), its warps and its shared memories.
//!
//! `schedule` picks warps, `step` interprets one convergent group of lanes, the other modules hold the instructions
//! by concept. Warps of all CTAs of the cluster are numbered in one sequence (`wi`).

pub mod address;
mod barrier;
mod copies;
mod cp_async;
mod exchange;
mod lanes;
mod loads;
mod matrix;
mod mbarrier;
mod memory;
mod order;
mod races;
mod report;
mod schedule;
mod shared;
mod step;
mod stores;
mod warp;
mod wgmma;
mod wmma;

use crate::error::{Error, Place};
use crate::ir::*;
use crate::launch::{Check, Launch, Mode, Schedule, Stats};
use crate::mem::GlobalMem;
use crate::tensor_map::TensorMap;
use barrier::NamedBarrier;
use loads::Pending;
use mbarrier::Mbarrier;
use order::Clock;
use races::Races;
use shared::Shared;
use std::collections::HashSet;
use warp::Warp;
use wgmma::Warpgroup;

type R<T> = Result<T, Box<Error>>;

/// Where something happens: instruction, warp, lane.
#[derive(Debug, Clone, Copy)]
struct At {
    pc: u32,
    wi: usize,
    l: usize,
}

/// What the threads of one CTA share.
struct Cta {
    id: [u32; 3],
    shared: Shared,
    /// what was accessed when, if races are looked for
    races: Option<Races>,
    barriers: Vec<NamedBarrier>,
    mbarriers: Vec<Mbarrier>,
    warpgroups: Vec<Warpgroup>,
    exited: u32,
}

/// What a launch fixes for all of its CTAs.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub launch: &'a Launch,
    pub code: &'a Code,
    pub global: &'a GlobalMem,
    pub maps: &'a [TensorMap],
    pub params: &'a [u8],
    /// CTAs per cluster, if the kernel or the launch asks for clusters.
    pub cluster: Option<[u32; 3]>,
    pub shared_bytes: usize,
    pub local_bytes: usize,
    /// Name the instruction that writes this global byte.
    pub watch: Option<u64>,
}

impl Job<'_> {
    fn threads(&self) -> u32 {
        self.launch.block.iter().product()
    }

    fn warps(&self) -> usize {
        self.threads().div_ceil(32) as usize
    }

    /// Of a cluster.
    fn all_warps(&self) -> usize {
        self.cluster
            .map_or(1, |shape| shape.iter().product::<u32>()) as usize
            * self.warps()
    }
}

pub struct Cluster<'a> {
    job: Job<'a>,
    ctas: Vec<Cta>,
    warps: Vec<Warp>,
    /// Outstanding operations that complete on an mbarrier.
    pending: Vec<Pending>,
    /// Of the arrivals at barrier.cluster, in the current phase and in the last complete one.
    cluster_clock: [Clock; 2],
    /// Counts whatever may unblock a thread.
    events: u64,
    random: u64,
    reported: HashSet<(u32, usize)>,
    /// Line that last wrote the watched byte.
    pub watched: Option<u32>,
    pub stats: Stats,
}

/// Calls `f` for the lanes in `mask` until one fails.
#[inline(always)]
fn try_lanes(mut mask: u32, mut f: impl FnMut(usize) -> R<()>) -> R<()> {
    while mask != 0 {
        f(mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
    }
    Ok(())
}

impl<'a> Cluster<'a> {
    /// The cluster whose CTA of rank 0 is `first`.
    pub fn new(job: Job<'a>, first: [u32; 3]) -> Self {
        let [x, y, z] = job.cluster.unwrap_or([1; 3]);
        let ranks = 0..x * y * z;
        let ids = ranks.map(|r| {
            [
                first[0] + r % x,
                first[1] + r / x % y,
                first[2] + r / (x * y),
            ]
        });
        let ctas: Vec<_> = ids.map(|id| Cta::new(&job, id)).collect();
        let warps = job.warps();
        let warp = |i: usize| Warp::new(&job, ctas[i / warps].id, i / warps, i % warps);
        Cluster {
            warps: (0..ctas.len() * warps).map(warp).collect(),
            ctas,
            pending: vec![],
            cluster_clock: Default::default(),
            events: 0,
            random: seed(job.launch, first),
            reported: HashSet::new(),
            watched: None,
            stats: Stats::default(),
            job,
        }
    }

    fn code(&self) -> &'a Code {
        self.job.code
    }

    fn cta_of(&self, wi: usize) -> usize {
        self.warps[wi].cta
    }

    fn line(&self, pc: u32) -> u32 {
        self.job.code.line(pc)
    }

    fn reg(&self, at: At, s: S) -> u32 {
        self.warps[at.wi].registers.get(s, at.l)
    }

    fn reg64(&self, at: At, s: S) -> u64 {
        self.warps[at.wi].registers.get64(s, at.l)
    }

    /// The address that an operand means.
    #[inline(always)]
    fn address(&self, at: At, a: &Addr) -> u64 {
        let base = match a.wide {
            true => self.reg64(at, a.slot),
            false => self.reg(at, a.slot) as u64,
        };
        base.wrapping_add_signed(a.offset)
    }

    fn error(&self, at: At, message: impl Into<String>) -> Box<Error> {
        let w = &self.warps[at.wi];
        let place = Place {
            cta: self.ctas[w.cta].id,
            thread: (w.thread0 + at.l) as u32,
        };
        Box::new(Error {
            place: Some(place),
            ..Error::at(self.line(at.pc), message)
        })
    }

    fn fail<T>(&self, at: At, message: impl Into<String>) -> R<T> {
        Err(self.error(at, message))
    }

    /// A breach: an error, or a warning, once per instruction.
    #[cold]
    fn breach(&mut self, check: Check, at: At, message: impl Into<String>) -> R<()> {
        let error = self.error(at, message);
        if !self.job.launch.tolerate.contains(&check) {
            return Err(error);
        }
        let new = self.reported.insert((at.pc, check as usize));
        if new && self.stats.warnings.len() < Stats::WARNINGS {
            self.stats
                .warnings
                .push(format!("line {}: {}", error.line, error.message));
        }
        Ok(())
    }

    fn random(&mut self) -> u64 {
        let s = &mut self.random;
        *s ^= *s << 13;
        *s ^= *s >> 7;
        *s ^= *s << 17;
        s.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// Whether an asynchronous operation acts at issue.
    fn acts_now(&mut self) -> bool {
        match self.job.launch.mode {
            Mode::Eager => true,
            Mode::Lazy => false,
            Mode::Random(_) => self.random() & 1 == 0,
        }
    }
}

fn seed(launch: &Launch, first: [u32; 3]) -> u64 {
    let given = match (launch.mode, launch.schedule) {
        (Mode::Random(seed), _) | (_, Schedule::Random(seed)) => seed,
        _ => 1,
    };
    let cta = (first[0] as u64 + 1) << 20 ^ (first[1] as u64) << 40 ^ (first[2] as u64) << 52;
    (given.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ cta) | 1
}

impl Cta {
    fn new(job: &Job, id: [u32; 3]) -> Self {
        Self {
            id,
            shared: Shared::new(job.shared_bytes),
            races: job
                .launch
                .races
                .then(|| Races::new(job.shared_bytes, job.all_warps())),
            barriers: vec![NamedBarrier::default(); 16],
            mbarriers: vec![],
            warpgroups: vec![Warpgroup::default(); job.warps().div_ceil(4)],
            exited: 0,
        }
    }
}
