//! A program that counts what passed and what failed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::build::{Kind, Program};
use super::tally::Tally;
use crate::process::captured;
use crate::workspace;

/// A program to run, or why that is not possible.
pub(crate) struct Job {
    pub(crate) name: String,
    command: Result<Command>,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) time: Duration,
    /// What it printed.
    pub(crate) text: String,
}

impl Job {
    pub(crate) fn new(name: &str, command: Result<Command>) -> Self {
        let name = name.into();
        Self { name, command }
    }

    /// Runs a program's tests, if it has any.
    pub(crate) fn test(program: &Program) -> Option<Self> {
        let folder = program.folder.strip_prefix(workspace::root());
        let package = folder.unwrap_or(&program.folder).display().to_string();
        let part = match program.kind {
            Kind::Binary => return None,
            Kind::Test => program.target.clone(),
            Kind::UnitTest => format!("unit tests of {}", program.target),
        };
        let name = format!("{package} {part}");
        Some(Self::new(name.trim_start(), Ok(program.command())))
    }

    /// Runs it to the end.
    pub(crate) fn run(self) -> Outcome {
        let start = Instant::now();
        let (tally, text) = match self.command.and_then(captured) {
            Ok((success, text)) => (count(success, &text), text),
            Err(error) => (Tally::FAILURE, format!("error: {error:#}\n")),
        };
        Outcome {
            tally,
            time: start.elapsed(),
            text,
        }
    }
}

/// A failure that the program did not count is one more, and so is a program that counted nothing.
fn count(success: bool, text: &str) -> Tally {
    let parts: Vec<_> = text.lines().filter_map(Tally::parse).collect();
    let counted = !parts.is_empty();
    let mut tally = Tally::default();
    parts.into_iter().for_each(|part| tally += part);
    if tally.failed == 0 && !(success && counted) {
        tally += Tally::FAILURE;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::count;

    const PASSED: &str = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored;";

    #[test]
    fn what_is_not_counted_is_a_failure() {
        for (success, text, passed, failed) in [
            (true, PASSED, 3, 0),
            (false, PASSED, 3, 1),
            (true, "nothing", 0, 1),
            (false, "12 passed, 2 failed", 12, 2),
        ] {
            let tally = count(success, text);
            assert_eq!((tally.passed, tally.failed), (passed, failed), "{text}");
        }
    }
}
