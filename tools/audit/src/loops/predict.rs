//! What the model says of a loop: how busy the tensor cores are, and what limits them.

use super::machine::SHARED_BYTES;
use super::product::Product;
use super::scheduler::{Timing, Warps, period};
use super::step::Step;

/// Passes of the fixed point between a round's length and what loads leave of the shared memory in it.
const PASSES: usize = 4;
/// A loss of share that counts.
const NOTICED: f64 = 0.01;
/// How busy a part is that limits.
const BUSY: f64 = 0.9;

/// Shares are of the peak of the tensor cores.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// One warp of a scheduler alone.
    pub alone: f64,
    /// All warps, if shared memory took no time.
    pub without_shared: f64,
    /// All warps.
    pub share: f64,
    /// Cycles of a round of all warps.
    pub period: f64,
    /// How busy each part is then, the busiest first.
    pub busy: Vec<(&'static str, f64)>,
}

/// Bytes of shared memory that move in a round of all warps of a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shared {
    /// By products of warpgroups.
    pub products: f64,
    /// By ordinary instructions.
    pub ordinary: f64,
    /// By TMA.
    pub loads: f64,
}

impl Prediction {
    /// The part that limits: shared memory if the share were greater without; else the busiest, or latency if none is busy
    /// most of the time.
    pub fn limit(&self) -> &'static str {
        match self.busy.first() {
            _ if self.without_shared - self.share > NOTICED => "shared memory",
            Some((name, busy)) if *busy >= BUSY => name,
            _ => "latency",
        }
    }

    /// None if the model's warps get stuck: their barriers are not those that it knows.
    pub(crate) fn of(steps: &[Step], warps: Warps, shared: &Shared) -> Option<Self> {
        let tensor: f64 = steps
            .iter()
            .filter_map(|s| s.product)
            .map(|p| p.cycles)
            .sum();
        let free = |step: &Step| step.product.map_or(0.0, |p| p.cycles);
        let plain = Timing {
            product: &free,
            shared: false,
        };
        let one = Warps {
            count: 1,
            of_cube: 1,
        };
        let alone = period(steps, one, &plain)?;
        let without = period(steps, warps, &plain)?;
        let period = with_shared(steps, warps, shared, without)?;
        let all = tensor * warps.count as f64;
        Some(Self {
            alone: tensor / alone,
            without_shared: all / without,
            share: all / period,
            period,
            busy: busy(steps, warps, shared, period),
        })
    }
}

/// A product takes no less than its operands take of what others leave of the shared memory.
fn with_shared(steps: &[Step], warps: Warps, shared: &Shared, mut cycles: f64) -> Option<f64> {
    for _ in 0..PASSES {
        let left = (SHARED_BYTES - (shared.loads + shared.ordinary) / cycles).max(1.0);
        let slowed = |product: Product| product.cycles.max(product.bytes / left);
        let product = |step: &Step| step.product.map_or(0.0, slowed);
        let timing = Timing {
            product: &product,
            shared: true,
        };
        cycles = period(steps, warps, &timing)?;
    }
    Some(cycles)
}

fn busy(steps: &[Step], warps: Warps, shared: &Shared, period: f64) -> Vec<(&'static str, f64)> {
    use super::class::Pipe::{Alu, Fma, Special};
    let count = warps.count as f64;
    let pipe = |wanted| {
        let cycles = steps
            .iter()
            .filter_map(|s| s.pipe)
            .filter(|(pipe, _)| *pipe == wanted);
        cycles.map(|(_, cycles)| f64::from(cycles)).sum::<f64>() * count
    };
    let tensor: f64 = steps
        .iter()
        .filter_map(|s| s.product)
        .map(|p| p.cycles)
        .sum();
    let bytes = shared.products + shared.ordinary + shared.loads;
    let mut busy = vec![
        ("tensor", tensor * count / period),
        ("shared memory", bytes / period / SHARED_BYTES),
        ("exponentials", pipe(Special) / period),
        ("FMA", pipe(Fma) / period),
        ("ALU", pipe(Alu) / period),
        ("issue", steps.len() as f64 * count / period),
    ];
    busy.sort_by(|a, b| b.1.total_cmp(&a.1));
    busy
}
