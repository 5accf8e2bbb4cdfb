//! The GPUs that PTX was made for.

use std::fmt;

/// What `.target` names: as `sm_90a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Compute capability as one number: 90 is 9.0.
    pub capability: u32,
    /// Whether it may use what only GPUs of this capability have, and so runs on no other.
    pub specific: bool,
    /// Whether it may use what only GPUs of this major number have.
    family: bool,
}

impl Target {
    /// `sm_90a`
    pub const HOPPER: Target = Target {
        capability: 90,
        specific: true,
        family: false,
    };

    /// From its name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let unknown = || format!("unknown target {name}");
        let number = name.strip_prefix("sm_").ok_or_else(unknown)?;
        let digits = number.trim_end_matches(['a', 'f']);
        Ok(Self {
            capability: digits.parse().map_err(|_| unknown())?,
            specific: number.ends_with('a'),
            family: number.ends_with('f'),
        })
    }

    /// Whether a GPU of this compute capability runs it: every later one, unless the target is specific.
    pub fn runs_on(self, capability: u32) -> bool {
        match (self.specific, self.family) {
            (true, _) => capability == self.capability,
            (_, true) => capability >= self.capability && capability / 10 == self.capability / 10,
            _ => capability >= self.capability,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match (self.specific, self.family) {
            (true, _) => "a",
            (_, true) => "f",
            _ => "",
        };
        write!(f, "sm_{}{suffix}", self.capability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_gpus_run_what_is_not_specific() {
        let runs = |name: &str| {
            let target = Target::parse(name).unwrap();
            assert_eq!(target.to_string(), name);
            [80, 86, 90, 100, 103, 120].map(|capability| target.runs_on(capability))
        };
        assert_eq!(runs("sm_80"), [true; 6]);
        assert_eq!(runs("sm_90"), [false, false, true, true, true, true]);
        assert_eq!(runs("sm_90a"), [false, false, true, false, false, false]);
        assert_eq!(runs("sm_100f"), [false, false, false, true, true, false]);
        assert!(Target::parse("compute_80").is_err());
        assert!(Target::parse("sm_x").is_err());
    }
}
