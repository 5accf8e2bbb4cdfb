//! FlashAttention's rule for how wrong a tensor may be: at most twice what the same precision costs a plain
//! implementation, plus twice what adding and subtracting 0.3 costs the correct values.

use core::fmt;

use diff_flash_attn::DType;

use super::cases::rounding;

/// One tensor's largest error and what the rule allows.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) tensor: &'static str,
    /// `max |ours − reference|`; infinite where only one of them is a number.
    pub(crate) error: f64,
    /// `2 max |plain − reference| + 2 max |(reference + 0.3 − 0.3) − reference|`, the latter in the storage type.
    pub(crate) allowed: f64,
}

impl Check {
    /// `dtype` is what `ours` is stored in.
    pub(crate) fn new(
        tensor: &'static str,
        dtype: DType,
        ours: &[f32],
        reference: &[f64],
        plain: &[f64],
    ) -> Self {
        let round = rounding(dtype);
        let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
        let stored: Vec<f64> = reference
            .iter()
            .map(|x| f64::from(round(*x as f32)))
            .collect();
        let shifted: Vec<f64> = stored
            .iter()
            .map(|x| f64::from(round(round(*x as f32 + 0.3) - 0.3)))
            .collect();
        let allowed = 2.0 * largest(plain, reference) + 2.0 * largest(&shifted, &stored);
        Self {
            tensor,
            error: largest(&ours, reference),
            allowed,
        }
    }

    pub(crate) fn passes(&self) -> bool {
        self.allowed.is_finite() && self.error <= self.allowed
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passes() { "ok" } else { "WRONG" };
        write!(
            f,
            "{:>8}: error {:.2e}, allowed {:.2e}: {verdict}",
            self.tensor, self.error, self.allowed
        )
    }
}

/// Prints every check under the name of its case, and panics if one fails.
pub(crate) fn assert_all(case: &str, checks: &[Check]) {
    let lines: Vec<String> = checks
        .iter()
        .map(|check| format!("{case} {check}"))
        .collect();
    println!("{}", lines.join("\n"));
    assert!(!checks.is_empty(), "{case}: nothing was compared");
    assert!(checks.iter().all(Check::passes), "{}", lines.join("\n"));
}

/// Largest difference; none between equal infinities, infinite between a number and none.
fn largest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "tensors of different sizes");
    let difference = |(x, y): (&f64, &f64)| match (x - y).abs() {
        _ if x == y => 0.0,
        difference if difference.is_nan() => f64::INFINITY,
        difference => difference,
    };
    ours.iter().zip(theirs).map(difference).fold(0.0, f64::max)
}
