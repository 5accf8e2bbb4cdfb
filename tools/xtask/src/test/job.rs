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

/// What is added to a name, and a program's arguments.
type Share = (&'static str, &'static [&'static str]);

const ALL: [Share; 1] = [("", &[])];

/// A device compiles for one thread at a time. Together these are all tests.
const DEVICE_SHARES: [Share; 2] = [
    (": forward_backward", &["forward_backward::"]),
    (": the rest", &["--skip=forward_backward::"]),
];

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

    /// Runs a program's tests, if it has any; in several processes where one takes long and keeps one core busy.
    pub(crate) fn tests(program: &Program) -> Vec<Self> {
        let folder = program.folder.strip_prefix(workspace::root());
        let package = folder.unwrap_or(&program.folder).display().to_string();
        let (part, shares) = match program.kind {
            Kind::Binary => return vec![],
            Kind::Test if program.target == "device" => ("device".into(), &DEVICE_SHARES[..]),
            Kind::Test => (program.target.clone(), &ALL[..]),
            Kind::UnitTest => (format!("unit tests of {}", program.target), &ALL[..]),
        };
        let share = |(suffix, arguments): &(&str, &[&str])| {
            let mut command = program.command();
            command.args(*arguments);
            let name = format!("{package} {part}{suffix}");
            Self::new(name.trim_start(), Ok(command))
        };
        shares.iter().map(share).collect()
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
