//! How wrong a tensor may be: FlashAttention's rule, at most twice what the same precision costs a plain implementation,
//! plus twice what adding and subtracting 0.3 costs the correct values.
//!
//! In `f32` the plain implementation's largest error is one draw of noise as small as ours, of few numbers where a tensor
//! has few. So a tensor in `f32` also passes if each of its elements is as exact as error analysis asks (see
//! [`crate::rounding`]). For the same reason what the precision costs a λ that many rows share is not that one draw alone
//! but, if it is greater, what the errors of the rows add up to.

use core::fmt;

use diff_flash_attn::DType;

use crate::cases::rounding;

/// What one tensor is compared with, in its order.
pub struct Expected<'a> {
    /// The reference's values.
    pub exact: &'a [f64],
    /// Those of the plain implementation in the same precision.
    pub plain: &'a [f64],
    /// What errors that add up in one element come to, where plain's own are too few to tell.
    pub summed: f64,
    /// What rounding in `f32` may cost every element, for tensors stored in `f32`.
    pub rounding: Option<&'a [f64]>,
}

/// One tensor's largest error and what the rule allows.
#[derive(Debug, Clone)]
pub struct Check {
    /// Name of the tensor.
    pub tensor: &'static str,
    /// `max |ours − exact|`; infinite where only one of them is a number.
    pub error: f64,
    /// `2 max |plain − exact| + 2 max |(exact + 0.3 − 0.3) − exact|`, the latter in the storage type; the former at least
    /// twice [`Expected::summed`].
    pub allowed: f64,
    /// Whether every element is within what rounding may cost it.
    pub within_rounding: bool,
}

impl Check {
    /// `dtype` is what `ours` is stored in.
    pub fn new(tensor: &'static str, dtype: DType, ours: &[f32], expected: &Expected) -> Self {
        let Expected {
            exact,
            plain,
            summed,
            rounding: costs,
        } = *expected;
        let round = rounding(dtype);
        let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
        let stored: Vec<f64> = exact.iter().map(|x| f64::from(round(*x as f32))).collect();
        let shifted: Vec<f64> = stored
            .iter()
            .map(|x| f64::from(round(round(*x as f32 + 0.3) - 0.3)))
            .collect();
        Self {
            tensor,
            error: largest(&ours, exact),
            allowed: 2.0 * largest(plain, exact).max(summed) + 2.0 * largest(&shifted, &stored),
            within_rounding: costs.is_some_and(|costs| {
                assert_eq!(costs.len(), ours.len(), "{tensor}: one cost an element");
                (0..ours.len()).all(|i| difference(ours[i], exact[i]) <= costs[i])
            }),
        }
    }

    /// Whether the error is allowed.
    pub fn passes(&self) -> bool {
        self.within_rounding || self.allowed.is_finite() && self.error <= self.allowed
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.passes(), self.error <= self.allowed) {
            (true, true) => "ok",
            (true, false) => "ok, every element within what rounding costs",
            (false, _) => "WRONG",
        };
        write!(
            f,
            "{:>8}: error {:.2e}, allowed {:.2e}: {verdict}",
            self.tensor, self.error, self.allowed
        )
    }
}

/// Prints every check under the name of its case, and panics if one fails.
pub fn assert_all(case: &str, checks: &[Check]) {
    let wrong = report(case, checks);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prints every check under the name of its case; the lines of those that fail.
pub fn report(case: &str, checks: &[Check]) -> Vec<String> {
    assert!(!checks.is_empty(), "{case}: nothing was compared");
    let line = |check: &Check| format!("{case} {check}");
    checks.iter().for_each(|check| println!("{}", line(check)));
    checks
        .iter()
        .filter(|check| !check.passes())
        .map(line)
        .collect()
}

fn largest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "tensors of different sizes");
    let differences = ours.iter().zip(theirs).map(|(x, y)| difference(*x, *y));
    differences.fold(0.0, f64::max)
}

/// None between equal infinities, infinite between a number and none.
fn difference(x: f64, y: f64) -> f64 {
    match (x - y).abs() {
        _ if x == y => 0.0,
        difference if difference.is_nan() => f64::INFINITY,
        difference => difference,
    }
}
