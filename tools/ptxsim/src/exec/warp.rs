//! A warp: registers, and where its lanes are.

use super::copies::LaneCopies;
use super::order::Clock;
use super::stores::LaneStores;
use super::wgmma::Outstanding;
use super::{Job, address};
use crate::alu::registers::Registers;
use crate::ir::*;

/// What a group of lanes waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Run,
    /// at this named barrier
    Barrier(usize),
    /// at barrier.cluster
    Cluster,
    /// for the other lanes of a mask
    Lanes(u32),
    /// for this parity of the mbarrier at this offset of its CTA
    Mbarrier(usize, u32),
    /// until all warps of the warpgroup have issued this many wgmmas
    Wgmma(usize),
    /// spins: a test_wait failed, or nanosleep
    Yield,
}

/// Lanes that are at the same instruction.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
}

pub struct Warp {
    /// rank of its CTA in the cluster
    pub cta: usize,
    /// index of its first thread in the CTA
    pub thread0: usize,
    pub registers: Registers,
    pub groups: Vec<Group>,
    /// lanes that exist
    pub present: u32,
    /// lanes that have not exited
    pub alive: u32,
    pub local: Vec<u8>,
    pub copies: Vec<LaneCopies>,
    pub stores: Vec<LaneStores>,
    /// another group than that with the lowest pc is to run
    pub fair: bool,
    pub wgmma: Outstanding,
    pub instructions: u64,
    /// operands of setmaxnreg
    pub max_registers: Vec<u32>,
    /// the last failed try_wait timed out
    pub timed_out: bool,
    /// lanes that arrived at the current phase of barrier.cluster
    pub cluster_arrived: u32,
    /// lanes whose phase of barrier.cluster completed, but that did not wait for it yet
    pub cluster_done: u32,
    /// what it knows of the other warps of the cluster
    pub clock: Clock,
    /// per CTA: time and instruction of the last access to its shared memory
    pub touched: Vec<(u32, u32)>,
}

impl Warp {
    /// The warp of an index in the CTA of a rank.
    pub fn new(job: &Job, cta: [u32; 3], rank: usize, index: usize) -> Self {
        let threads = (job.threads() - index as u32 * 32).min(32);
        let present = u32::MAX >> (32 - threads);
        let ctas = job.cluster.unwrap_or([1; 3]).iter().product::<u32>() as usize;
        let ordered = ctas > 1 || job.launch.races;
        let all = if ordered { job.all_warps() } else { 0 };
        Self {
            cta: rank,
            thread0: index * 32,
            registers: registers(job, cta, rank as u32, index as u32),
            groups: vec![Group {
                pc: 0,
                mask: present,
                state: State::Run,
            }],
            present,
            alive: present,
            local: vec![0xff; job.local_bytes * 32],
            copies: vec![LaneCopies::default(); 32],
            stores: vec![LaneStores::default(); 32],
            fair: false,
            wgmma: Outstanding::new(job.code),
            instructions: 0,
            max_registers: vec![],
            timed_out: false,
            cluster_arrived: 0,
            cluster_done: 0,
            clock: Clock::start(rank * job.warps() + index, all),
            touched: vec![(0, 0); ctas],
        }
    }

    /// Index of its warpgroup in the CTA.
    pub fn warpgroup(&self) -> usize {
        self.thread0 / 128
    }

    /// Its position in the warpgroup.
    pub fn in_warpgroup(&self) -> usize {
        self.thread0 / 32 % 4
    }

    pub fn wait(&mut self, pc: u32, mask: u32, state: State) {
        if mask != 0 {
            self.groups.push(Group { pc, mask, state });
        }
    }
}

fn registers(job: &Job, cta: [u32; 3], rank: u32, warp: u32) -> Registers {
    let code = job.code;
    let mut words = vec![[0; 32]; code.slots as usize];
    for (slot, v) in &code.constants {
        words[*slot as usize] = [*v as u32; 32];
        words[*slot as usize + 1] = [(*v >> 32) as u32; 32];
    }
    for (slot, s) in &code.specials {
        let lane = |l| special(job, *s, cta, rank, warp, l as u32);
        words[*slot as usize] = std::array::from_fn(lane);
    }
    let mut predicates = vec![0; code.predicates as usize];
    predicates[code.predicates as usize - 1] = u32::MAX;
    Registers { words, predicates }
}

fn special(job: &Job, s: Special, cta: [u32; 3], rank: u32, warp: u32, lane: u32) -> u32 {
    let (grid, block) = (job.launch.grid, job.launch.block);
    let shape = job.cluster.unwrap_or([1; 3]);
    let t = warp * 32 + lane;
    match s {
        Special::Tid(a) => [
            t % block[0],
            t / block[0] % block[1],
            t / (block[0] * block[1]),
        ][a],
        Special::Ntid(a) => block[a],
        Special::Ctaid(a) => cta[a],
        Special::Nctaid(a) => grid[a],
        Special::ClusterId(a) => cta[a] / shape[a],
        Special::ClusterCount(a) => grid[a] / shape[a],
        Special::CtaInCluster(a) => cta[a] % shape[a],
        Special::ClusterShape(a) => shape[a],
        Special::ClusterRank => rank,
        Special::ClusterSize => shape.iter().product(),
        Special::IsCluster => job.cluster.is_some() as u32,
        Special::SharedAddr(offset) => rank << address::RANK_SHIFT | offset,
        Special::Lane => lane,
        Special::Warp => warp,
        Special::Warps => job.warps() as u32,
        Special::Zero => 0,
        Special::LaneMask(mask) => {
            let eq = 1u32 << lane;
            match mask {
                LaneMask::Eq => eq,
                LaneMask::Lt => eq - 1,
                LaneMask::Le => eq | (eq - 1),
                LaneMask::Gt => !(eq | (eq - 1)),
                LaneMask::Ge => !(eq - 1),
            }
        }
        Special::DynamicShared => job.launch.shared as u32,
        Special::TotalShared => job.shared_bytes as u32,
    }
}
