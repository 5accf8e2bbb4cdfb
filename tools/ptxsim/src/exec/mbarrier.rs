//! mbarriers: phases, arrivals, transactions.

use super::address::Loc;
use super::order::Clock;
use super::shared::Byte;
use super::warp::State;
use super::{At, Cluster, R, try_lanes};
use crate::ir::*;
use crate::launch::Check;

/// Counts of arrivals and of bytes are below this.
const LIMIT: i64 = 1 << 20;

#[derive(Debug, Clone)]
pub struct Mbarrier {
    /// offset in its CTA
    pub o: usize,
    /// arrivals of a phase
    pub count: i64,
    /// those still to come
    pub pending: i64,
    /// bytes still to come
    pub tx: i64,
    pub phase: u64,
    /// the other CTAs of the cluster see it initialised
    published: bool,
    /// of the arrivals so far, and when the last phase completed
    pub arrived: Clock,
    done: Clock,
}

/// What a wait found: the lanes that may go on, and those that wait for the parity of one mbarrier.
pub struct Tested {
    pub ready: u32,
    pub waiting: u32,
    pub state: State,
}

impl Cluster<'_> {
    pub(super) fn mbarrier_op(&mut self, at: At, mask: u32, addr: &Addr, op: &MbarrierOp) -> R<()> {
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let space = match op {
                MbarrierOp::Arrive { space, .. } | MbarrierOp::Expect { space, .. } => *space,
                _ => Space::Shared,
            };
            let p = self.locate(at, space, self.address(at, addr), 8)?;
            match op {
                MbarrierOp::Init { .. } => self.race_write(at, p, 8)?,
                _ => self.race_read(at, p, 8)?,
            }
            match op {
                MbarrierOp::Init { count } => self.init(at, p, self.reg(at, *count) as i64),
                MbarrierOp::Inval => {
                    self.mbarrier(at, p)?;
                    self.ctas[p.cta].mbarriers.retain(|b| b.o != p.o);
                    self.ctas[p.cta].shared.mark(p.o, 8, Byte::Nothing);
                    Ok(())
                }
                MbarrierOp::Arrive {
                    count, expect, d, ..
                } => {
                    self.before_arrival(at, p)?;
                    let phase = self.mbarrier(at, p)?.phase;
                    self.warps[at.wi].registers.set64(*d, l, phase);
                    if let Some(bytes) = expect {
                        self.expect(at, p, self.reg(at, *bytes) as i64)?;
                    }
                    self.arrive(at, p, self.reg(at, *count) as i64)
                }
                MbarrierOp::Expect { bytes, .. } => {
                    self.before_arrival(at, p)?;
                    self.expect(at, p, self.reg(at, *bytes) as i64)
                }
                MbarrierOp::Wait { .. } => unreachable!("waits may block"),
            }
        })
    }

    fn init(&mut self, at: At, p: Loc, count: i64) -> R<()> {
        if !p.o.is_multiple_of(8) {
            return self.fail(at, "an mbarrier is aligned to 8 bytes");
        }
        if !(1..LIMIT).contains(&count) {
            return self.fail(at, format!("{count} arrivals"));
        }
        if self.find(p).is_some() {
            return self.fail(at, "the mbarrier is initialised already");
        }
        self.check_write(at, p, 8)?;
        self.ctas[p.cta].shared.mark(p.o, 8, Byte::Mbarrier);
        self.ctas[p.cta].mbarriers.push(Mbarrier {
            o: p.o,
            count,
            pending: count,
            tx: 0,
            phase: 0,
            published: false,
            arrived: Clock::default(),
            done: Clock::default(),
        });
        Ok(())
    }

    fn find(&self, p: Loc) -> Option<usize> {
        self.ctas[p.cta].mbarriers.iter().position(|b| b.o == p.o)
    }

    pub(super) fn mbarrier(&mut self, at: At, p: Loc) -> R<&mut Mbarrier> {
        match self.find(p) {
            Some(i) => Ok(&mut self.ctas[p.cta].mbarriers[i]),
            None => self.fail(
                at,
                format!("no mbarrier is initialised at 0x{:x}", p.address()),
            ),
        }
    }

    /// Whether the phase of a parity is over, lane by lane.
    pub(super) fn test(
        &mut self,
        at: At,
        mask: u32,
        addr: &Addr,
        (v, state): (S, bool),
    ) -> R<Tested> {
        let mut found = Tested {
            ready: 0,
            waiting: 0,
            state: State::Run,
        };
        try_lanes(mask, |l| {
            let at = At { l, ..at };
            let p = self.locate(at, Space::Shared, self.address(at, addr), 8)?;
            self.race_read(at, p, 8)?;
            let parity = match state {
                true => self.reg(at, v) & 1,
                false => self.reg(at, v),
            };
            if parity > 1 {
                return self.fail(at, format!("parity {parity}"));
            }
            let b = self.mbarrier(at, p)?;
            let own = State::Mbarrier(p.o, parity);
            if b.phase & 1 != parity as u64 {
                let done = b.done.clone();
                found.ready |= 1 << l;
                self.warps[at.wi].clock.join(&done);
            } else if found.waiting == 0 || found.state == own {
                found.waiting |= 1 << l;
                found.state = own;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// fence.mbarrier_init, barrier.cluster.arrive.release
    pub(super) fn publish(&mut self, cta: usize) {
        for b in &mut self.ctas[cta].mbarriers {
            b.published = true;
        }
    }

    /// Before an operation on an mbarrier, perhaps of another CTA.
    pub(super) fn check_published(&mut self, at: At, p: Loc) -> R<()> {
        let published = self.mbarrier(at, p)?.published;
        if published || p.cta == self.cta_of(at.wi) {
            return Ok(());
        }
        let a = p.address();
        self.breach(
            Check::Proxy,
            at,
            format!(
                "uses mbarrier 0x{a:x} of another CTA, initialised without \
                 fence.mbarrier_init or a releasing barrier.cluster.arrive"
            ),
        )
    }

    /// The arriving warp's knowledge goes to whoever waits for the phase.
    fn before_arrival(&mut self, at: At, p: Loc) -> R<()> {
        self.check_published(at, p)?;
        let own = &mut self.warps[at.wi].clock;
        let clock = own.clone();
        own.tick(at.wi);
        self.mbarrier(at, p)?.arrived.join(&clock);
        Ok(())
    }

    /// `bytes` more are to come; fewer, if negative.
    pub(super) fn expect(&mut self, at: At, p: Loc, bytes: i64) -> R<()> {
        let b = self.mbarrier(at, p)?;
        b.tx += bytes;
        if b.tx.abs() >= LIMIT {
            return self.fail(at, "the transaction count is out of range");
        }
        self.complete(at, p)
    }

    /// `n` arrivals.
    pub(super) fn arrive(&mut self, at: At, p: Loc, n: i64) -> R<()> {
        let b = self.mbarrier(at, p)?;
        b.pending -= n;
        if b.pending < 0 {
            let (a, count) = (p.address(), b.count);
            return self.fail(
                at,
                format!("more than {count} arrivals on mbarrier 0x{a:x}"),
            );
        }
        self.complete(at, p)
    }

    fn complete(&mut self, at: At, p: Loc) -> R<()> {
        let b = self.mbarrier(at, p)?;
        if b.pending == 0 && b.tx == 0 {
            b.phase += 1;
            b.pending = b.count;
            b.done = b.arrived.clone();
            self.events += 1;
        }
        Ok(())
    }
}
