//! Time: what is left, and what a call takes on the device.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use diff_flash_attn::Client;

/// The time that a part of the run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    start: Instant,
    end: Instant,
}

impl Budget {
    pub(crate) fn new(seconds: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + Duration::from_secs(seconds),
        }
    }

    /// So much of what is left, for one of several that have to share it.
    pub(crate) fn part(&self, of: f64) -> Self {
        let now = Instant::now();
        let left = self.end.saturating_duration_since(now);
        Self {
            start: now,
            end: now + left.mul_f64(of),
        }
    }

    pub(crate) fn is_spent(&self) -> bool {
        Instant::now() > self.end
    }

    pub(crate) fn spent(&self) -> String {
        format!("{} s", self.start.elapsed().as_secs())
    }
}

/// Milliseconds of one call: the middle and the fifths at either end of repeated measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) p20: f64,
    pub(crate) p80: f64,
    pub(crate) repeats: usize,
}

/// Work that is enqueued on the device.
pub(crate) type Call<'a> = dyn Fn() -> Result<()> + Send + Sync + 'a;

/// At least so long is measured at once: many short calls, so that the ends of a measurement do not count.
const AT_ONCE: f64 = 5e-3;
/// Measurements are repeated so long.
const ALTOGETHER: f64 = 0.4;

/// Times a call by the device's own clock, warm.
pub(crate) fn time(client: &Client, call: &Call<'_>) -> Result<Times> {
    call()?;
    let device = &client.properties().identity.name;
    ensure!(
        !device.contains("simulator"),
        "computed, not timed: {device} has no clock"
    );
    let once = measure(client, 1, call)?.max(1e-6);
    let calls = (AT_ONCE / once).ceil().clamp(1.0, 200.0) as usize;
    let repeats = (ALTOGETHER / (calls as f64 * once)).clamp(5.0, 60.0) as usize;
    // The first are thrown away: clocks rise under load.
    let mut times = (0..repeats + 2)
        .map(|_| Ok(measure(client, calls, call)? / calls as f64 * 1e3))
        .collect::<Result<Vec<f64>>>()?
        .split_off(2);
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    Ok(Times {
        median: at(0.5),
        p20: at(0.2),
        p80: at(0.8),
        repeats,
    })
}

/// Seconds of so many calls.
fn measure(client: &Client, calls: usize, call: &Call<'_>) -> Result<f64> {
    let work = || (0..calls).try_for_each(|_| call());
    let (outcome, profile) = client
        .profile(work, "attention")
        .map_err(|error| anyhow!("computed, not timed: {error}"))?;
    outcome?;
    let ticks = pollster::block_on(profile.resolve());
    let duration = ticks.context("the device measured nothing")?.duration();
    Ok(duration.as_secs_f64())
}
