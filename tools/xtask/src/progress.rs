//! A spinner with the elapsed time, for whatever takes more than a few seconds.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Does `work` behind a spinner, or behind a line of text where nobody sees a spinner.
pub(crate) fn spin<T>(message: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]")?;
    let bar = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(message.to_owned());
    if bar.is_hidden() {
        eprintln!("{message} ...");
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    let start = Instant::now();
    let done = work();
    bar.finish_and_clear();
    let outcome = if done.is_ok() { "done" } else { "failed" };
    eprintln!(
        "{message}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    done
}
