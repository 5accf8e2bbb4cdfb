//! One golden case: the inputs of an attention, and what another implementation made of them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use diff_flash_attn::lambda::LambdaVectors;
use diff_flash_attn::{Mask, Norm, Problem, reference};

use crate::file::File;
use crate::layout::{Layout, Operand};

/// A case, everything in the file's own layout.
#[derive(Debug, Clone)]
pub struct Case {
    /// Name of the file without its extension.
    pub name: String,
    /// How query, key and value lie in the file.
    pub layout: Layout,
    /// Sizes, mask and norm; the storage type is `f32`.
    pub problem: Problem,
    /// The query, library order `[B, Nq, H, 2, d]`.
    pub query: Operand,
    /// The key, library order `[B, Nk, Hk, 2, d]`, or `[B, Nk, Hk, 1, d]` where both maps share it.
    pub key: Operand,
    /// The value, library order `[B, Nk, Hk, 2, dv/2]` or `[B, Nk, Hk, dv]`.
    pub value: Operand,
    /// What λ is made of.
    pub lambda: Lambda,
    /// Weight of the norm, `[dv]`.
    pub gamma: Option<Vec<f64>>,
    /// Gradient of the output, `[B, Nq, H, dv]`; without it there is no backward pass to compare.
    pub grad_output: Option<Vec<f64>>,
    /// What the file says comes out, in the order of [`Case::TENSORS`].
    pub expected: Vec<Expected>,
}

/// What λ is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Lambda {
    /// `λ = exp(q1·k1) − exp(q2·k2) + λ_init`, one number.
    Vectors(Vectors),
    /// `λ = sigmoid(logit)`.
    Logit {
        /// Broadcastable to `[B, Nq, H]`.
        shape: Vec<usize>,
        /// Row-major elements of `shape`.
        values: Vec<f64>,
    },
}

/// The vectors `[d]` of λ, and λ_init.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// λ_q1.
    pub q1: Vec<f64>,
    /// λ_k1.
    pub k1: Vec<f64>,
    /// λ_q2.
    pub q2: Vec<f64>,
    /// λ_k2.
    pub k2: Vec<f64>,
    /// λ_init.
    pub init: f64,
}

/// One tensor that the file says comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Its name in the file.
    pub tensor: &'static str,
    /// Its elements, row-major in the file's layout.
    pub values: Vec<f64>,
}

impl Case {
    /// Every tensor that is compared if the file holds it.
    pub const TENSORS: [&str; 10] = [
        "y",
        "dq",
        "dk",
        "dv",
        "dgamma",
        "dlambda_q1",
        "dlambda_k1",
        "dlambda_q2",
        "dlambda_k2",
        "dlam_logit",
    ];

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`Case::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        Self::parse(&name, &bytes)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// If they are no safetensors file, a tensor or a key of the metadata is missing, shapes disagree, or there is
    /// nothing to compare.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let parse = || Self::from_file(name, &File::parse(bytes)?);
        parse().with_context(|| format!("golden case {name}"))
    }

    fn from_file(name: &str, file: &File) -> Result<Self> {
        let layout = Layout::recognize(file)?;
        let (sizes, [query, key, value]) = layout.operands(file)?;
        let mask = if file.flag("causal")? {
            Mask::Causal
        } else {
            Mask::None
        };
        let problem = sizes.with_mask(mask).with_norm(norm(file)?);
        let gamma = file.get_shaped("gamma", &[problem.value_dim])?;
        ensure!(
            gamma.is_none() || problem.norm.is_some(),
            "has gamma, but no metadata eps"
        );
        let lambda = Lambda::read(file, problem_rows(&problem))?;
        let grad_output = file.get_shaped("dy", &output_shape(&problem))?;
        let mut case = Self {
            name: name.to_owned(),
            layout,
            problem,
            query,
            key,
            value,
            lambda,
            gamma,
            grad_output,
            expected: vec![],
        };
        case.expected = case.read_expected(file)?;
        Ok(case)
    }

    fn read_expected(&self, file: &File) -> Result<Vec<Expected>> {
        let mut found = vec![];
        for tensor in Self::TENSORS {
            if file.get(tensor).is_none() {
                continue;
            }
            // A gradient has the shape of its input, which has its name without the d.
            let shape = match tensor.strip_prefix('d') {
                Some(input) => {
                    &file
                        .need(input)
                        .with_context(|| format!("but has {tensor}"))?
                        .shape[..]
                }
                None => &self.output_shape(),
            };
            let values = file.get_shaped(tensor, shape)?;
            found.extend(values.map(|values| Expected { tensor, values }));
        }
        ensure!(
            !found.is_empty(),
            "has no output and no gradient to compare"
        );
        let forward_only = found.iter().all(|expected| expected.tensor == "y");
        ensure!(
            forward_only || self.grad_output.is_some(),
            "has gradients, but no dy"
        );
        Ok(found)
    }

    /// `[B, Nq, H]`, which λ is broadcast to.
    pub fn rows(&self) -> [usize; 3] {
        problem_rows(&self.problem)
    }

    /// `[B, Nq, H, dv]`, shape of the output and of its gradient.
    pub fn output_shape(&self) -> [usize; 4] {
        output_shape(&self.problem)
    }

    /// The inputs of the reference.
    ///
    /// # Errors
    /// If the vectors of λ have different lengths.
    pub fn inputs(&self) -> Result<reference::Inputs> {
        Ok(reference::Inputs {
            query: self.query.to_library(),
            key: self.key.to_library(),
            value: self.value.to_library(),
            lambda: reference::expand(&self.lambda.values()?, self.lambda.shape(), self.rows())?,
            gamma: self.gamma.clone(),
        })
    }
}

impl Lambda {
    fn read(file: &File, rows: [usize; 3]) -> Result<Self> {
        if let Some(logit) = file.get("lam_logit") {
            ensure!(
                file.get("lambda_q1").is_none(),
                "has both lambda_q1 and lam_logit"
            );
            let (shape, values) = (logit.shape.clone(), logit.values.clone());
            reference::expand(&values, &shape, rows).context("lam_logit")?;
            return Ok(Lambda::Logit { shape, values });
        }
        let vector = |name| Ok::<_, anyhow::Error>(file.need(name)?.values.clone());
        let vectors = Vectors {
            q1: vector("lambda_q1")?,
            k1: vector("lambda_k1")?,
            q2: vector("lambda_q2")?,
            k2: vector("lambda_k2")?,
            init: file
                .number("lambda_init")?
                .context("has no metadata lambda_init")?,
        };
        Ok(Lambda::Vectors(vectors))
    }

    /// Shape of λ itself, broadcastable to `[B, Nq, H]`.
    pub fn shape(&self) -> &[usize] {
        match self {
            Lambda::Vectors(_) => &[1],
            Lambda::Logit { shape, .. } => shape,
        }
    }

    /// λ, row-major in [`Lambda::shape`].
    ///
    /// # Errors
    /// If the vectors have different lengths.
    pub fn values(&self) -> Result<Vec<f64>> {
        Ok(match self {
            Lambda::Vectors(vectors) => vec![reference::lambda(&vectors.borrow(), vectors.init)?],
            Lambda::Logit { values, .. } => values.iter().map(|x| sigmoid(*x)).collect(),
        })
    }
}

impl Vectors {
    /// The four vectors, as the library takes them.
    pub fn borrow(&self) -> LambdaVectors<'_, f64> {
        LambdaVectors {
            q1: &self.q1,
            k1: &self.k1,
            q2: &self.q2,
            k2: &self.k2,
        }
    }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn problem_rows(problem: &Problem) -> [usize; 3] {
    [problem.batch, problem.query_len, problem.heads]
}

fn output_shape(problem: &Problem) -> [usize; 4] {
    [
        problem.batch,
        problem.query_len,
        problem.heads,
        problem.value_dim,
    ]
}

/// The norm that the metadata describes, if any.
fn norm(file: &File) -> Result<Option<Norm>> {
    let Some(eps) = file.number("eps")? else {
        return Ok(None);
    };
    let lambda_init = file.number("lambda_init")?.unwrap_or(0.0);
    Ok(Some(Norm {
        eps: eps as f32,
        lambda_init: lambda_init as f32,
    }))
}
