//! Jobs side by side: most of them keep one core busy, some of them all.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::job::{Job, Outcome};
use super::tally::Tally;

/// Jobs that run at the same time. Not more on a larger machine: each takes as many cores as it can use.
const WORKERS: usize = 2;

/// What takes longest, beginning with the longest; the rest is short.
const LONGEST: [&str; 7] = [
    "CUDA audit",
    "tests/burn burn_module",
    "device: the rest",
    "device on SwiftShader",
    "tools/simulator integration",
    "device: forward_backward",
    "documentation",
];

/// Runs all, the longest first, and prints each one's output when it has ended.
pub(crate) fn run(mut jobs: Vec<Job>) -> Tally {
    jobs.sort_by_key(|job| {
        LONGEST
            .iter()
            .position(|name| *name == job.name)
            .map_or(LONGEST.len(), |at| at)
    });
    let total = Mutex::new(Tally::default());
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(job) = next() {
            let name = job.name.clone();
            let outcome = job.run();
            // Nobody else prints meanwhile.
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            print(&name, &outcome);
            *total += outcome.tally;
        }
    };
    thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn print(name: &str, outcome: &Outcome) {
    println!("\n==> {name}, {:.1} s", outcome.time.as_secs_f64());
    for line in outcome.text.lines() {
        // The line of our own form must stand once, at the end.
        if line.starts_with("test result") || Tally::parse(line).is_none() {
            println!("{line}");
        }
    }
    println!("{name}: {}", outcome.tally);
}
