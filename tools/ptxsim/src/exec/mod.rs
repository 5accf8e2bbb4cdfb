//! The interpreter: one cluster of CTAs (usually one CTA), its warps and its shared memories.
//!
//! `sched` picks warps, `step` interprets one convergent group of lanes, the other modules hold the instructions
//! by concept. Warps of all CTAs of the cluster are numbered in one sequence (`wi`).
mod barrier;
mod copies;
mod lanes;
mod memory;
mod order;
mod sched;
mod step;
mod warp;
mod wgmma;

use crate::alu::*;
use crate::decode::SMEM0;
use crate::ir::*;
use crate::mem::*;
use crate::{Config, Mode, Policy, Schedule, SimError, Stats};
use barrier::{MBar, NamedBar};
use copies::{LaneAsync, Pending};
use lanes::Preds;
use memory::Loc;
use order::Clock;
use std::collections::HashSet;
use wgmma::Wg;

type R<T> = Result<T, Box<SimError>>;

/// Where something happens: instruction, warp, lane.
#[derive(Debug, Clone, Copy)]
struct At {
    pc: u32,
    wi: usize,
    l: usize,
}

/// What a group of lanes waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum St {
    Run,
    /// waits at named barrier
    Bar(u32),
    /// waits at barrier.cluster
    Cluster,
    /// waits for the other lanes of a membermask
    Warp(u32),
    /// waits for a parity of the mbarrier at this offset of its CTA
    MBar(usize, u32),
    Wg(usize),
    /// spinning politely (failed test_wait, nanosleep)
    Yield,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    pc: u32,
    mask: u32,
    st: St,
}

struct Warp {
    /// rank of its CTA in the cluster
    cta: usize,
    /// index of its first thread in the CTA
    thread0: usize,
    regs: Vec<[u32; 32]>,
    preds: Vec<u32>,
    groups: Vec<Group>,
    present: u32,
    alive: u32,
    cc: u32,
    local: Vec<u8>,
    lanes: Vec<LaneAsync>,
    fair: bool,
    /// per slot: 1 A operand, 2 accumulator of an outstanding wgmma
    inflight: Vec<u8>,
    ninflight: u32,
    wg_commits: Vec<usize>,
    wg_retired: usize,
    instrs: u64,
    maxnreg: Vec<u32>,
    /// the last failed try_wait timed out
    timed_out: bool,
    /// lanes that arrived at the current phase of barrier.cluster
    cluster_arrived: u32,
    /// lanes whose phase of barrier.cluster completed, but that did not wait for it yet
    cluster_done: u32,
    /// what it knows of the other warps of the cluster
    clock: Clock,
    /// per CTA: time and instruction of the last access to its shared memory
    touched: Vec<(u32, u32)>,
}

/// What the threads of one CTA share.
struct Cta {
    ctaid: [u32; 3],
    smem: Vec<u8>,
    /// byte was written (and is not the destination of an outstanding copy)
    sinit: Vec<u8>,
    /// 16-byte granules written through the generic proxy since the last proxy fence
    sdirty: Vec<u8>,
    /// (CTA, granule) this CTA has to fence
    dirty: Vec<(u32, u32)>,
    bars: Vec<NamedBar>,
    mbars: Vec<MBar>,
    wgs: Vec<Wg>,
    exited: u32,
}

/// What a launch fixes for all of its CTAs.
#[derive(Clone, Copy)]
pub struct Launch<'a> {
    pub cfg: &'a Config,
    pub code: &'a Code,
    pub gmem: &'a GlobalMem,
    pub maps: &'a [TensorMap],
    pub params: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// CTAs per cluster, if the kernel or the launch asks for clusters
    pub cluster: Option<[u32; 3]>,
    pub smem_size: usize,
    pub dyn_smem: usize,
    pub local_size: usize,
}

impl Launch<'_> {
    fn special(&self, sp: Special, ctaid: [u32; 3], rank: u32, warp: u32, lane: u32) -> u32 {
        let block = self.block;
        let size = self.cluster.unwrap_or([1; 3]);
        let t = warp * 32 + lane;
        match sp {
            Special::Tid(a) => [
                t % block[0],
                t / block[0] % block[1],
                t / (block[0] * block[1]),
            ][a as usize],
            Special::Ntid(a) => block[a as usize],
            Special::Ctaid(a) => ctaid[a as usize],
            Special::Nctaid(a) => self.grid[a as usize],
            Special::ClusterId(a) => ctaid[a as usize] / size[a as usize],
            Special::NClusterId(a) => self.grid[a as usize] / size[a as usize],
            Special::ClusterCtaid(a) => ctaid[a as usize] % size[a as usize],
            Special::ClusterNctaid(a) => size[a as usize],
            Special::ClusterRank => rank,
            Special::ClusterSize => size.iter().product(),
            Special::ExplicitCluster => self.cluster.is_some() as u32,
            Special::SharedAddr(off) => rank << memory::RANK_SHIFT | off,
            Special::Lane => lane,
            Special::Warp => warp,
            Special::NWarp => block.iter().product::<u32>().div_ceil(32),
            Special::Zero => 0,
            Special::One => 1,
            Special::LaneMask(0) => 1 << lane,
            Special::LaneMask(1) => (1 << lane) - 1,
            Special::LaneMask(2) => (1u32 << lane) | ((1 << lane) - 1),
            Special::LaneMask(3) => !((1u32 << lane) | ((1 << lane) - 1)),
            Special::LaneMask(_) => !((1u32 << lane) - 1),
            Special::DynSmem => self.dyn_smem as u32,
            Special::TotalSmem => self.smem_size as u32,
        }
    }
}

pub struct Cluster<'a> {
    run: Launch<'a>,
    ctas: Vec<Cta>,
    warps: Vec<Warp>,
    warps_per_cta: usize,
    /// outstanding operations that complete on an mbarrier
    pend: Vec<Pending>,
    /// of the arrivals at barrier.cluster, in the current phase and in the last complete one
    cluster_clock: [Clock; 2],
    /// counts whatever may unblock a thread
    events: u64,
    /// threads per CTA
    nthreads: u32,
    strict: bool,
    clock: u64,
    rng: u64,
    warned: HashSet<(u32, u32)>,
    pub stats: Stats,
}

fn rng_next(s: &mut u64) -> u64 {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    s.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
}

/// Calls `f` for the lanes in `m` until one fails.
#[inline(always)]
fn try_lanes(mut m: u32, mut f: impl FnMut(usize) -> R<()>) -> R<()> {
    while m != 0 {
        f(m.trailing_zeros() as usize)?;
        m &= m - 1;
    }
    Ok(())
}

impl<'a> Cluster<'a> {
    /// The cluster whose CTA of rank 0 is `first`.
    pub fn new(run: Launch<'a>, first: [u32; 3]) -> Self {
        let size = run.cluster.unwrap_or([1; 3]);
        let n = run.block.iter().product::<u32>();
        let nw = n.div_ceil(32) as usize;
        let mut ctas = Vec::new();
        let mut warps = Vec::new();
        for rank in 0..size.iter().product::<u32>() {
            let ctaid = [
                first[0] + rank % size[0],
                first[1] + rank / size[0] % size[1],
                first[2] + rank / (size[0] * size[1]),
            ];
            for w in 0..nw as u32 {
                warps.push(Warp::new(&run, ctaid, rank, w, (n - w * 32).min(32)));
            }
            ctas.push(Cta {
                ctaid,
                smem: vec![0xff; run.smem_size],
                sinit: vec![0; run.smem_size],
                sdirty: vec![0; run.smem_size.div_ceil(16)],
                dirty: vec![],
                bars: vec![NamedBar::default(); 16],
                mbars: vec![],
                wgs: (0..nw.div_ceil(4)).map(|_| Wg::default()).collect(),
                exited: 0,
            });
        }
        let seed = match (run.cfg.mode, run.cfg.schedule) {
            (Mode::Random(s), _) | (_, Schedule::Random(s)) => s,
            _ => 1,
        };
        let rng = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (first[0] as u64 + 1) << 20
            ^ (first[1] as u64) << 40
            ^ 0x1234_5678_9abc)
            | 1;
        Cluster {
            run,
            ctas,
            warps,
            warps_per_cta: nw,
            pend: vec![],
            cluster_clock: Default::default(),
            events: 0,
            nthreads: n,
            strict: false,
            clock: 0,
            rng,
            warned: HashSet::new(),
            stats: Stats::default(),
        }
    }

    fn cta_of(&self, wi: usize) -> usize {
        self.warps[wi].cta
    }

    /// The CTA of a warp and the index of its warpgroup there.
    fn wg_of(&self, wi: usize) -> (usize, usize) {
        (self.warps[wi].cta, self.warps[wi].thread0 / 128)
    }

    fn line(&self, pc: u32) -> u32 {
        self.run.code.insts[pc as usize].line
    }

    fn fail<T>(&self, at: At, msg: impl Into<String>) -> R<T> {
        let w = &self.warps[at.wi];
        Err(Box::new(SimError {
            line: self.line(at.pc),
            ctaid: self.ctas[w.cta].ctaid,
            thread: Some((w.thread0 + at.l) as u32),
            msg: msg.into(),
        }))
    }

    /// Reports a finding once per instruction and `key`.
    fn report(&mut self, policy: Policy, at: At, key: u32, msg: impl FnOnce() -> String) -> R<()> {
        match policy {
            Policy::Ignore => Ok(()),
            Policy::Error => self.fail(at, msg()),
            Policy::Warn => {
                if self.warned.insert((at.pc, key)) && self.stats.warnings.len() < 200 {
                    self.stats.warnings.push(format!(
                        "line {}, thread {}: {}",
                        self.line(at.pc),
                        self.warps[at.wi].thread0 + at.l,
                        msg()
                    ));
                }
                Ok(())
            }
        }
    }

    /// Whether an asynchronous operation acts at issue.
    fn eager_choice(&mut self) -> bool {
        match self.run.cfg.mode {
            Mode::Eager => true,
            Mode::Lazy => false,
            Mode::Random(_) => rng_next(&mut self.rng) & 1 == 0,
        }
    }
}

impl Warp {
    fn new(run: &Launch, ctaid: [u32; 3], rank: u32, index: u32, threads: u32) -> Warp {
        let code = run.code;
        let ctas = run.cluster.unwrap_or([1; 3]).iter().product::<u32>() as usize;
        let nw = run.block.iter().product::<u32>().div_ceil(32) as usize;
        let present = if threads == 32 {
            !0
        } else {
            (1u32 << threads) - 1
        };
        let mut regs = vec![[0u32; 32]; code.nslots as usize];
        for (s, v) in &code.consts {
            regs[*s as usize] = [*v as u32; 32];
            regs[*s as usize + 1] = [(*v >> 32) as u32; 32];
        }
        for (s, sp) in &code.specials {
            for l in 0..32 {
                regs[*s as usize][l as usize] = run.special(*sp, ctaid, rank, index, l);
            }
        }
        let mut preds = vec![0u32; code.npred as usize];
        preds[code.npred as usize - 1] = !0;
        Warp {
            cta: rank as usize,
            thread0: index as usize * 32,
            regs,
            preds,
            groups: vec![Group {
                pc: 0,
                mask: present,
                st: St::Run,
            }],
            present,
            alive: present,
            cc: 0,
            local: vec![0xff; run.local_size * 32],
            lanes: (0..32).map(|_| LaneAsync::default()).collect(),
            fair: false,
            inflight: vec![0; code.nslots as usize],
            ninflight: 0,
            wg_commits: vec![],
            wg_retired: 0,
            instrs: 0,
            maxnreg: vec![],
            timed_out: false,
            cluster_arrived: 0,
            cluster_done: 0,
            clock: Clock::start(
                rank as usize * nw + index as usize,
                if ctas > 1 { ctas * nw } else { 0 },
            ),
            touched: vec![(0, 0); ctas],
        }
    }
}
