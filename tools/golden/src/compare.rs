//! How far what came out is from what the file says, tensor by tensor.

use anyhow::{Context, Result, bail, ensure};
use diff_flash_attn::reference;
use serde::Serialize;

use crate::case::{Case, Lambda, Vectors, sigmoid};
use crate::makers::Makers;
use crate::run::{Computed, ComputedGradients, Runner};

/// One tensor of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// Name of the tensor in the file.
    pub tensor: &'static str,
    /// Who computed it: a family of kernels, `passes` for sums on the device, `host` for what is derived from them,
    /// `reference`.
    pub kernel: String,
    /// `max |ours − theirs|`.
    pub max_abs: f64,
    /// `‖ours − theirs‖ / ‖theirs‖`, Euclidean.
    pub relative: f64,
}

impl Row {
    /// How far `ours` is from `theirs`.
    ///
    /// # Errors
    /// If they have not as many elements.
    pub fn new(
        case: &str,
        (tensor, makers): (&'static str, &Makers),
        ours: &[f64],
        theirs: &[f64],
    ) -> Result<Self> {
        let (got, expected) = (ours.len(), theirs.len());
        ensure!(
            got == expected,
            "{tensor}: {got} elements were computed, expected {expected}"
        );
        let difference: Vec<f64> = ours.iter().zip(theirs).map(|(x, y)| x - y).collect();
        let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = norm(&difference);
        let relative = if error == 0.0 {
            0.0
        } else {
            error / norm(theirs)
        };
        // `f64::max` forgets a NaN, the norm does not.
        let largest = difference.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let max_abs = if error.is_finite() { largest } else { error };
        Ok(Self {
            case: case.to_owned(),
            tensor,
            kernel: makers.name(tensor),
            max_abs,
            relative,
        })
    }
}

/// Computes a case and compares: one row for each tensor of [`Case::expected`].
///
/// # Errors
/// If the runner fails, or as [`compare`].
pub fn check(case: &Case, runner: &mut dyn Runner) -> Result<Vec<Row>> {
    let context = || format!("golden case {}", case.name);
    let computed = runner.run(case).with_context(context)?;
    compare(case, &computed).with_context(context)
}

/// Compares what a runner computed with the case: one row for each tensor of [`Case::expected`].
///
/// # Errors
/// If something that is expected was not computed, or has another number of elements.
pub fn compare(case: &Case, computed: &Computed) -> Result<Vec<Row>> {
    let rows = case.expected.iter().map(|expected| {
        let ours = computed_tensor(case, computed, expected.tensor)?;
        let tensor = (expected.tensor, &computed.makers);
        Row::new(&case.name, tensor, &ours, &expected.values)
    });
    rows.collect()
}

fn computed_tensor(case: &Case, computed: &Computed, tensor: &'static str) -> Result<Vec<f64>> {
    if tensor == "y" {
        return Ok(computed.output.clone());
    }
    let gradients = computed
        .gradients
        .as_ref()
        .context("no gradients were computed")?;
    match tensor {
        "dq" => Ok(gradients.query.clone()),
        "dk" => Ok(gradients.key.clone()),
        "dv" => Ok(gradients.value.clone()),
        "dgamma" => gradients
            .gamma
            .clone()
            .context("no gradient of gamma was computed"),
        _ => match &case.lambda {
            Lambda::Vectors(vectors) => vector_gradient(vectors, gradients, tensor),
            Lambda::Logit { values, .. } => Ok(logit_gradient(values, gradients)),
        },
    }
}

fn vector_gradient(
    vectors: &Vectors,
    gradients: &ComputedGradients,
    tensor: &str,
) -> Result<Vec<f64>> {
    let &[grad_lambda] = &gradients.lambda[..] else {
        bail!("λ is one number, its gradient is not")
    };
    let gradient = reference::lambda_gradient(&vectors.borrow(), grad_lambda)?;
    Ok(match tensor {
        "dlambda_q1" => gradient.q1,
        "dlambda_k1" => gradient.k1,
        "dlambda_q2" => gradient.q2,
        "dlambda_k2" => gradient.k2,
        other => bail!("no gradient {other} of the vectors of λ"),
    })
}

/// `dlogit = dλ · λ (1 − λ)`
fn logit_gradient(logits: &[f64], gradients: &ComputedGradients) -> Vec<f64> {
    let slope = |logit: f64| sigmoid(logit) * sigmoid(-logit);
    gradients
        .lambda
        .iter()
        .zip(logits)
        .map(|(grad, logit)| grad * slope(*logit))
        .collect()
}
