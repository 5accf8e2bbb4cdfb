//! Who computed a tensor: for each row, the family of kernels or what else stands behind it.

use diff_flash_attn::{Description, Operand, Plan};

/// What a device does in passes that belong to no family.
const PASSES: &str = "passes";
/// What the host derives from what the device gave.
const HOST: &str = "host";

/// Who computed the tensors of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Makers {
    /// One for all.
    One(&'static str),
    /// The launches of the library's plans.
    Launches(Vec<Description>),
}

impl Makers {
    /// Those of a forward pass and, after [`and`](Self::and), of a backward pass.
    pub fn of(plan: &Plan) -> Self {
        Makers::Launches(plan.describe())
    }

    /// And those of another plan.
    #[must_use]
    pub fn and(self, plan: &Plan) -> Self {
        match self {
            Makers::One(_) => self,
            Makers::Launches(launches) => Makers::Launches([launches, plan.describe()].concat()),
        }
    }

    /// Who computed the tensor that golden cases call so: a family for the output and the gradients of query, key and
    /// value; `passes` for sums on the device, `host` for what was derived from them there.
    pub fn name(&self, tensor: &str) -> String {
        let launches = match self {
            Makers::One(name) => return (*name).into(),
            Makers::Launches(launches) => launches,
        };
        let operand = match tensor {
            "y" => Operand::Output,
            "dq" => Operand::GradQuery,
            "dk" => Operand::GradKey,
            "dv" => Operand::GradValue,
            "dgamma" | "dlambda" => return PASSES.into(),
            _ => return HOST.into(),
        };
        family(launches, operand).unwrap_or_else(|| PASSES.into())
    }
}

/// The family of the last launch that wrote an operand; where that belongs to none, of one that wrote what it read.
fn family(launches: &[Description], operand: Operand) -> Option<String> {
    let writes = |launch: &Description| launch.writes.contains(&operand);
    let at = launches.iter().rposition(writes)?;
    let (before, launch) = (&launches[..at], &launches[at]);
    match launch.family {
        Some(family) => Some(family.to_string()),
        None => launch.reads.iter().find_map(|read| family(before, *read)),
    }
}
