//! The model: the warps of one scheduler go round and round their loop. Every stall count and scoreboard of the machine code is
//! obeyed; one instruction is issued a cycle.

use super::class::Pipe;
use super::step::{Hold, Step};

/// Cycles from the end of a product to the instruction after the wait for it. Assumed.
const WAKE: f64 = 24.0;
/// Cycles from the issue of a product to its first cycle in an idle tensor core. Assumed.
const FILL: f64 = 24.0;
/// Cycles until an instruction has read its operands. Assumed.
const READ: f64 = 12.0;
/// Cycles by which each warp begins after the one before.
const APART: u64 = 40;
/// Rounds that are gone through; the first half is not measured.
const ROUNDS: usize = 40;
/// Cycles after which the warps count as stuck.
const LIMIT: u64 = 1_000_000;
/// Bytes of shared memory that a scheduler has in a cycle: its share of a multiprocessor's 128.
const SHARED: f64 = 32.0;

/// The warps of a scheduler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warps {
    /// All of them.
    pub count: usize,
    /// Those of one cube, which its barriers bring together.
    pub of_cube: usize,
}

/// How long a product takes; and whether loads of shared memory wait for each other.
pub(crate) struct Timing<'a> {
    pub product: &'a dyn Fn(&Step) -> f64,
    pub shared: bool,
}

/// Cycles of a round of all warps. None if they never get there.
pub(crate) fn period(steps: &[Step], warps: Warps, timing: &Timing) -> Option<f64> {
    if steps.is_empty() || warps.count == 0 {
        return None;
    }
    let mut scheduler = Scheduler::new(steps, warps, timing);
    while scheduler
        .warps
        .iter()
        .any(|warp| warp.rounds.len() < ROUNDS)
    {
        if scheduler.now > LIMIT {
            return None;
        }
        scheduler.cycle();
        scheduler.now += 1;
    }
    let rounds = &scheduler.warps[0].rounds;
    let (last, half) = (rounds.len() - 1, ROUNDS / 2);
    Some((rounds[last] - rounds[half]) as f64 / (last - half) as f64)
}

#[derive(Default)]
struct Warp {
    at: usize,
    ready: u64,
    /// When each scoreboard is clear.
    boards: [f64; 6],
    /// When each group of products ends, the last ones.
    groups: Vec<f64>,
    group_end: f64,
    /// Barriers at which it arrived, and whether it has at the one it stands at.
    met: u64,
    here: bool,
    turns: u64,
    passes: u64,
    /// When it came to the end of each round.
    rounds: Vec<u64>,
}

struct Scheduler<'a> {
    steps: &'a [Step],
    sizes: Warps,
    timing: &'a Timing<'a>,
    warps: Vec<Warp>,
    now: u64,
    last: usize,
    /// When each pipe, the tensor core and shared memory take the next instruction.
    pipes: [u64; 3],
    tensor: f64,
    shared: f64,
}

impl<'a> Scheduler<'a> {
    fn new(steps: &'a [Step], sizes: Warps, timing: &'a Timing<'a>) -> Self {
        let warp = |i: usize| Warp {
            ready: i as u64 * APART,
            ..Warp::default()
        };
        Self {
            steps,
            sizes,
            timing,
            warps: (0..sizes.count).map(warp).collect(),
            now: 0,
            last: 0,
            pipes: [0; 3],
            tensor: 0.0,
            shared: 0.0,
        }
    }

    /// Issues the next warp's instruction, if one can go.
    fn cycle(&mut self) {
        let count = self.warps.len();
        for i in 1..=count {
            let w = (self.last + i) % count;
            if self.can_issue(w) && self.may_pass(w) {
                self.issue(w);
                self.last = w;
                return;
            }
        }
    }

    fn can_issue(&self, w: usize) -> bool {
        let (warp, now) = (&self.warps[w], self.now as f64);
        let step = &self.steps[warp.at];
        let waits = (0..6).any(|b| step.waits >> b & 1 == 1 && warp.boards[b] > now);
        let pipe = step
            .pipe
            .is_some_and(|(pipe, _)| self.pipes[index(pipe)] > self.now);
        let tensor = step.product.is_some() && !step.asynchronous && self.tensor > now;
        warp.ready <= self.now && !waits && !pipe && !tensor
    }

    /// Waits for products and barriers.
    fn may_pass(&mut self, w: usize) -> bool {
        let now = self.now as f64;
        match self.steps[self.warps[w].at].hold {
            Hold::Products(pending) => {
                let groups = &self.warps[w].groups;
                let end = groups.len().checked_sub(1 + pending).map(|i| groups[i]);
                end.is_none_or(|end| end + WAKE <= now)
            }
            Hold::Meet => self.meets(w),
            Hold::Turn if self.warps.len() > 1 => {
                let before = (w + self.warps.len() - 1) % self.warps.len();
                let credit = self.warps[before].passes + u64::from(w == 0);
                self.warps[w].turns < credit
            }
            _ => true,
        }
    }

    fn meets(&mut self, w: usize) -> bool {
        if !std::mem::replace(&mut self.warps[w].here, true) {
            self.warps[w].met += 1;
        }
        let of_cube = self.sizes.of_cube.max(1);
        let first = w / of_cube * of_cube;
        let end = (first + of_cube).min(self.warps.len());
        let own = self.warps[w].met;
        self.warps[first..end].iter().all(|other| other.met >= own)
    }

    fn issue(&mut self, w: usize) {
        let step = self.steps[self.warps[w].at];
        let mut now = self.now as f64;
        if let Some((pipe, cycles)) = step.pipe {
            self.pipes[index(pipe)] = self.now + u64::from(cycles);
        }
        if step.product.is_some() {
            self.multiply(w, &step);
        }
        if step.shared > 0.0 && self.timing.shared {
            self.shared = self.shared.max(now) + step.shared / SHARED;
            now = self.shared;
        }
        let warp = &mut self.warps[w];
        set(
            &mut warp.boards,
            step.write_board,
            now + f64::from(step.latency),
        );
        set(&mut warp.boards, step.read_board, self.now as f64 + READ);
        warp.turns += u64::from(step.hold == Hold::Turn);
        warp.passes += u64::from(step.hold == Hold::Pass);
        warp.here = false;
        warp.ready = self.now + u64::from(step.cycles);
        warp.at += 1;
        if warp.at == self.steps.len() {
            warp.at = 0;
            warp.rounds.push(self.now);
        }
    }

    /// Products run in the order of their issue.
    fn multiply(&mut self, w: usize, step: &Step) {
        let now = self.now as f64;
        let begin = if step.asynchronous {
            self.tensor.max(now + FILL)
        } else {
            now
        };
        self.tensor = begin + (self.timing.product)(step);
        let warp = &mut self.warps[w];
        warp.group_end = self.tensor;
        if step.commits {
            warp.groups.push(warp.group_end);
            let old = warp.groups.len().saturating_sub(8);
            warp.groups.drain(..old);
        }
    }
}

fn index(pipe: Pipe) -> usize {
    match pipe {
        Pipe::Special => 0,
        Pipe::Fma => 1,
        Pipe::Alu => 2,
    }
}

fn set(boards: &mut [f64; 6], board: u32, until: f64) {
    if let Some(known) = boards.get_mut(board as usize) {
        *known = known.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction::Instruction;
    use super::super::machine::Machine;
    use super::*;

    fn cycles(lines: &[(u32, &str)], count: usize) -> f64 {
        let machine = Machine::of("sm_90a").unwrap();
        let step = |(stall, text): &(u32, &str)| {
            let mut instruction = Instruction::parse(text);
            instruction.stall = *stall;
            Step::of(&instruction, &machine)
        };
        let steps: Vec<Step> = lines.iter().map(step).collect();
        let product = |step: &Step| step.product.map_or(0.0, |product| product.cycles);
        let timing = Timing {
            product: &product,
            shared: true,
        };
        period(
            &steps,
            Warps {
                count,
                of_cube: count,
            },
            &timing,
        )
        .unwrap()
    }

    #[test]
    fn stalls_of_one_warp_are_filled_by_another() {
        let code = [(10, "FADD R0, R0, R1"), (10, "FADD R0, R0, R1")];
        assert_eq!(cycles(&code, 1), 20.0);
        assert_eq!(cycles(&code, 2), 20.0);
        assert!((cycles(&code, 16) - 32.0).abs() < 1.0);
    }

    #[test]
    fn exponentials_take_eight_cycles() {
        let code = [(1, "MUFU.EX2 R0, R0"), (1, "MUFU.EX2 R1, R1")];
        assert_eq!(cycles(&code, 2), 32.0);
    }

    #[test]
    fn a_wait_for_products_leaves_the_tensor_cores_to_the_other_warpgroup() {
        let code = [
            (1, "HGMMA.64x256x16.F32 R24, gdesc[UR4], R24, gsb0"),
            (1, "WARPGROUP.DEPBAR.LE gsb0, 0x0"),
        ];
        // One alone: 128 cycles of product, 24 to fill, 24 to wake.
        assert!(
            (176.0..182.0).contains(&cycles(&code, 1)),
            "{}",
            cycles(&code, 1)
        );
        assert_eq!(cycles(&code, 2), 256.0);
    }

    #[test]
    fn a_barrier_brings_warps_into_step() {
        let code = [(1, "BAR.SYNC.DEFER_BLOCKING 0x0"), (30, "FADD R0, R0, R1")];
        assert_eq!(cycles(&code, 1), 31.0);
        assert!(cycles(&code, 2) >= 31.0);
    }
}
