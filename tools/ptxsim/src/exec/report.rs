//! The report of a deadlock: who waits where.

use super::address::Loc;
use super::warp::{Group, State, Warp};
use super::{At, Cluster, R};

impl Cluster<'_> {
    /// Names the instruction of the first group that waits for something.
    pub(super) fn deadlock<T>(&self, head: &str) -> R<T> {
        let mut message = head.to_string();
        let mut first = At { pc: 0, wi: 0, l: 0 };
        let mut found = false;
        for (wi, w) in self.warps.iter().enumerate() {
            for g in &w.groups {
                message += &self.describe(w, g);
                if !found && g.state != State::Run {
                    let l = g.mask.trailing_zeros() as usize;
                    first = At {
                        pc: waits_at(g),
                        wi,
                        l,
                    };
                    found = true;
                }
            }
        }
        self.fail(first, message)
    }

    fn describe(&self, w: &Warp, g: &Group) -> String {
        let rank = match self.ctas.len() {
            1 => String::new(),
            _ => format!("CTA rank {} ", w.cta),
        };
        let (warp, line) = (w.thread0 / 32, self.line(waits_at(g)));
        let state = self.describe_state(w, g.state);
        format!(
            "\n  {rank}warp {warp} lanes {:08x} line {line}: {state}",
            g.mask
        )
    }

    fn describe_state(&self, w: &Warp, state: State) -> String {
        let cta = &self.ctas[w.cta];
        match state {
            State::Run => "runnable".into(),
            State::Yield => "spinning".into(),
            State::Lanes(mask) => format!("needs lanes {mask:08x} to come together"),
            State::Barrier(id) => {
                let b = &cta.barriers[id];
                let of = self.threads_of(b.expected);
                format!("at barrier {id}: {} of {of} threads arrived", b.count)
            }
            State::Cluster => {
                let (n, of) = self.cluster_counts();
                format!("at barrier.cluster: {n} of {of} threads arrived")
            }
            State::Wgmma(n) => {
                let issued = cta.warpgroups[w.warpgroup()].issued;
                format!("needs {n} wgmmas of all four warps, which issued {issued:?}")
            }
            State::Mbarrier(o, parity) => {
                let a = Loc { cta: w.cta, o }.address();
                let Some(b) = cta.mbarriers.iter().find(|b| b.o == o) else {
                    return format!("on mbarrier 0x{a:x}, which is invalid");
                };
                format!(
                    "on mbarrier 0x{a:x} for parity {parity}: phase {}, {} of {} arrivals and {} bytes are missing",
                    b.phase, b.pending, b.count, b.tx
                )
            }
        }
    }
}

/// Groups at a named barrier and after a failed test are one instruction further already.
fn waits_at(g: &Group) -> u32 {
    match g.state {
        State::Barrier(_) | State::Yield => g.pc - 1,
        _ => g.pc,
    }
}
