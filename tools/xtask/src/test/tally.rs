//! Counts of passed and failed tests, read from what test programs print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, how many failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    /// One failure.
    pub(crate) const FAILURE: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// Reads the last line of a libtest program (`test result: ok. 3 passed; 0 failed; …`) or a line in our own form.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        let (passed, rest) = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ")?.1.split_once(" passed; ")?,
            None => line.split_once(" passed, ")?,
        };
        let (failed, _) = rest.split_once(" failed")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.parse().ok()?,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn reads_libtest_and_its_own_form() {
        let expected = Some(Tally {
            passed: 12,
            failed: 3,
        });
        let libtest = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Tally::parse(libtest), expected);
        assert_eq!(Tally::parse("12 passed, 3 failed"), expected);
    }

    #[test]
    fn leaves_other_lines_alone() {
        for line in [
            "test a ... ok",
            "running 3 tests",
            "forward: 12 passed, 3 failed",
            "",
        ] {
            assert_eq!(Tally::parse(line), None, "{line}");
        }
    }

    #[test]
    fn sums_and_prints() {
        let mut sum = Tally {
            passed: 1,
            failed: 0,
        };
        sum += Tally {
            passed: 2,
            failed: 4,
        };
        assert_eq!(sum.to_string(), "3 passed, 4 failed");
    }
}
