//! The tensors of a call by name.

/// A tensor that a planned step reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// `[B, Nq, H, 2, d]`, or `[B, Nq, H, d]`.
    Query,
    /// `[B, Nk, Hk, 2, d]`, or `[B, Nk, Hk, d]`.
    Key,
    /// `[B, Nk, Hk, dv]`, or `[B, Nk, Hk, 2, dv/2]`.
    Value,
    /// Broadcastable to `[B, Nq, H]`.
    Lambda,
    /// `[dv]`.
    Gamma,
    /// `[B, Nq, H, dv]`.
    Output,
    /// `[B, Nq, H, maps, dv]`: O and O_2 before the norm.
    SavedOutputs,
    /// `[B, H, maps, Nq]`: log-sum-exps.
    SavedLse,
    /// `[B, Nq, H, dv]`.
    GradOutput,
    /// The query's shape.
    GradQuery,
    /// The key's shape.
    GradKey,
    /// The value's shape.
    GradValue,
    /// λ's shape.
    GradLambda,
    /// `[dv]`.
    GradGamma,
    /// `[d]`: λ_q1.
    LambdaQ1,
    /// `[d]`: λ_k1.
    LambdaK1,
    /// `[d]`: λ_q2.
    LambdaQ2,
    /// `[d]`: λ_k2.
    LambdaK2,
    /// `[4, d]`: gradients of λ's vectors.
    GradLambdaVectors,
    /// A part of the plan's workspace.
    Scratch(u8),
    /// Stands where a kernel has an argument that it does not use.
    Unused(u8),
}

/// Parts of a workspace that a plan can have.
pub(crate) const SCRATCHES: usize = 24;
/// Arguments of one kernel that can be unused.
pub(crate) const UNUSED: usize = 6;
/// Operands before the first scratch.
const NAMED: usize = 19;

impl Operand {
    /// How many there are.
    pub(crate) const COUNT: usize = NAMED + SCRATCHES + UNUSED;

    /// Its number among all of them.
    pub(crate) fn index(self) -> usize {
        match self {
            Operand::Query => 0,
            Operand::Key => 1,
            Operand::Value => 2,
            Operand::Lambda => 3,
            Operand::Gamma => 4,
            Operand::Output => 5,
            Operand::SavedOutputs => 6,
            Operand::SavedLse => 7,
            Operand::GradOutput => 8,
            Operand::GradQuery => 9,
            Operand::GradKey => 10,
            Operand::GradValue => 11,
            Operand::GradLambda => 12,
            Operand::GradGamma => 13,
            Operand::LambdaQ1 => 14,
            Operand::LambdaK1 => 15,
            Operand::LambdaQ2 => 16,
            Operand::LambdaK2 => 17,
            Operand::GradLambdaVectors => 18,
            Operand::Scratch(n) => NAMED + usize::from(n),
            Operand::Unused(n) => NAMED + SCRATCHES + usize::from(n),
        }
    }

    /// What errors call it.
    pub fn name(self) -> &'static str {
        match self {
            Operand::Query => "query",
            Operand::Key => "key",
            Operand::Value => "value",
            Operand::Lambda => "lambda",
            Operand::Gamma => "gamma",
            Operand::Output => "output",
            Operand::SavedOutputs => "saved outputs",
            Operand::SavedLse => "saved lse",
            Operand::GradOutput => "gradient of output",
            Operand::GradQuery => "gradient of query",
            Operand::GradKey => "gradient of key",
            Operand::GradValue => "gradient of value",
            Operand::GradLambda => "gradient of lambda",
            Operand::GradGamma => "gradient of gamma",
            Operand::LambdaQ1 => "lambda_q1",
            Operand::LambdaK1 => "lambda_k1",
            Operand::LambdaQ2 => "lambda_q2",
            Operand::LambdaK2 => "lambda_k2",
            Operand::GradLambdaVectors => "gradients of lambda's vectors",
            Operand::Scratch(_) => "scratch",
            Operand::Unused(_) => "unused",
        }
    }

    /// Names of its axes where it has `rank` of them.
    pub(crate) fn axes(self, rank: usize) -> &'static [&'static str] {
        use Operand::{
            GradKey, GradLambda, GradOutput, GradQuery, GradValue, Key, Lambda, Output, Query,
            SavedLse, SavedOutputs, Value,
        };
        const SEQUENCE: &[&str] = &["batch", "seq", "head", "pair", "dim"];
        match (self, rank) {
            (Query | Key | GradQuery | GradKey, 5) => SEQUENCE,
            (Value | GradValue, 5) => &["batch", "seq", "head", "half", "dim"],
            (SavedOutputs, 5) => &["batch", "seq", "head", "map", "dim"],
            (SavedLse, 4) => &["batch", "head", "map", "seq"],
            (Query | Key | Value | Output | GradOutput, 4)
            | (GradQuery | GradKey | GradValue, 4) => &["batch", "seq", "head", "dim"],
            // Broadcast as NumPy does it: axes are missing in front.
            (Lambda | GradLambda, 0..=3) => &SEQUENCE[3 - rank..3],
            (_, 1) => &["dim"],
            _ => &["axis"; 8],
        }
    }

    /// Axes it should have, `rank` of them, in words.
    pub(crate) fn expected(self, rank: usize) -> &'static str {
        match (self, rank) {
            (Operand::GradQuery, 5) => "[B, Nq, H, 2, d]",
            (Operand::GradQuery, _) => "[B, Nq, H, d]",
            (Operand::GradKey, 5) => "[B, Nk, Hk, 2, d]",
            (Operand::GradKey, _) => "[B, Nk, Hk, d]",
            (Operand::GradValue, 5) => "[B, Nk, Hk, 2, dv/2]",
            (Operand::GradValue, _) => "[B, Nk, Hk, dv]",
            (Operand::Output | Operand::GradOutput, _) => "[B, Nq, H, dv]",
            (Operand::SavedOutputs, _) => "[B, Nq, H, maps, dv]",
            (Operand::SavedLse, _) => "[B, H, maps, Nq]",
            (Operand::Gamma | Operand::GradGamma, _) => "[dv]",
            (Operand::Lambda | Operand::GradLambda, _) => "the axes of lambda",
            _ => "[d]",
        }
    }
}

impl core::fmt::Display for Operand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Operand::Scratch(n) | Operand::Unused(n) => write!(f, "{} {n}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct() {
        let last = Operand::GradLambdaVectors.index();
        assert_eq!(last + 1, NAMED);
        assert_eq!(Operand::Scratch(0).index(), NAMED);
        assert_eq!(
            Operand::Unused(UNUSED as u8 - 1).index() + 1,
            Operand::COUNT
        );
    }

    #[test]
    fn lambda_lacks_axes_in_front() {
        assert_eq!(Operand::Lambda.axes(1), ["head"]);
        assert_eq!(Operand::Lambda.axes(3), ["batch", "seq", "head"]);
    }
}
