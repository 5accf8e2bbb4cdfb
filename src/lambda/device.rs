//! λ and its gradient computed where the vectors are, so that a training step need not wait for the host.

use cubecl::prelude::Client;

use crate::attention::{check_device, check_last_axis, check_size, check_type};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::passes::lambda::{Vectors, plan_gradients, plan_lambda};
use crate::plan::{Bindings, Draft, Operand, Plan, View};
use crate::tensor::Tensor;

/// The learned vectors that λ is made of, on a device: each `[d]`, `f32`, contiguous.
#[derive(Debug, Clone)]
pub struct LambdaTensors {
    /// λ_q1.
    pub q1: Tensor,
    /// λ_k1.
    pub k1: Tensor,
    /// λ_q2.
    pub q2: Tensor,
    /// λ_k2.
    pub k2: Tensor,
}

impl LambdaTensors {
    /// The tensors by name.
    fn named(&self) -> [(Operand, &Tensor); 4] {
        let Self { q1, k1, q2, k2 } = self;
        [
            (Operand::LambdaQ1, q1),
            (Operand::LambdaK1, k1),
            (Operand::LambdaQ2, q2),
            (Operand::LambdaK2, k2),
        ]
    }

    /// The vectors as kernels address them, if they fit together.
    fn views(&self, client: &Client) -> Result<Vectors> {
        let dim = self.q1.len();
        for (operand, vector) in self.named() {
            check_vector(operand, client, vector)?;
            check_size(operand, vector, "dim", vector.len(), dim)?;
        }
        let view = |(operand, vector)| View::flat(operand, vector);
        let [q1, k1, q2, k2] = self.named().map(view);
        Ok(Vectors {
            views: [q1?, k1?, q2?, k2?],
            dim,
        })
    }

    fn bindings(&self) -> Bindings<'_> {
        let named = self.named().into_iter();
        named.fold(Bindings::new(), |bindings, (operand, vector)| {
            bindings.with(operand, vector)
        })
    }
}

/// `λ = exp(q1·k1) − exp(q2·k2) + λ_init` in `f32`: a tensor `[1]`, ready to be the λ of
/// [`Inputs`](crate::Inputs).
///
/// ```
/// use diff_flash_attn::lambda::{LambdaTensors, lambda_init, lambda_on_device};
/// use diff_flash_attn::{DType, Tensor, device};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let vector = |x: f32| Tensor::from_f32(&client, DType::F32, &[8], &[x; 8]);
/// let vectors = LambdaTensors { q1: vector(0.5)?, k1: vector(0.25)?, q2: vector(0.0)?, k2: vector(0.1)? };
/// let lambda = lambda_on_device(&client, &vectors, lambda_init(0))?.to_f32(&client)?;
/// assert!((lambda[0] - (1.0_f32.exp() - 1.0 + 0.2)).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A vector that is not `f32`, not contiguous, of another length or on another device;
/// [`Error::Launch`] if the device refuses the launch.
pub fn lambda_on_device(
    client: &Client,
    vectors: &LambdaTensors,
    lambda_init: f32,
) -> Result<Tensor> {
    let views = vectors.views(client)?;
    let lambda = Tensor::empty(client, DType::F32, &[1]);
    let draft = plan_lambda(views, View::flat(Operand::Lambda, &lambda)?, lambda_init);
    let bindings = vectors.bindings().with(Operand::Lambda, &lambda);
    run(client, "lambda", draft, &bindings, Operand::Lambda)?;
    Ok(lambda)
}

/// Runs what was planned for these tensors, of which one is written.
fn run(
    client: &Client,
    operation: &'static str,
    draft: Draft,
    bindings: &Bindings<'_>,
    written: Operand,
) -> Result<()> {
    let (device, expected) = (Device::of(client), bindings.expected(&[written]));
    let plan = Plan::new(operation, device, draft, expected, vec![]);
    plan.run(client, bindings)
}

/// Gradients of the four vectors, each `[d]`, from the gradient of λ, `[1]`: `dq1 = dλ · exp(q1·k1) · k1`, and so on.
///
/// ```
/// use diff_flash_attn::lambda::{LambdaTensors, lambda_gradient_on_device};
/// use diff_flash_attn::{DType, Tensor, device};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let vector = |x: f32| Tensor::from_f32(&client, DType::F32, &[8], &[x; 8]);
/// let vectors = LambdaTensors { q1: vector(0.0)?, k1: vector(0.5)?, q2: vector(0.0)?, k2: vector(0.25)? };
/// let grad_lambda = Tensor::from_f32(&client, DType::F32, &[1], &[2.0])?;
/// let gradient = lambda_gradient_on_device(&client, &vectors, &grad_lambda)?;
/// assert_eq!(gradient.q1.to_f32(&client)?, [1.0; 8]);
/// assert_eq!(gradient.q2.to_f32(&client)?, [-0.5; 8]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`lambda_on_device`], and a gradient of λ of another length or type.
pub fn lambda_gradient_on_device(
    client: &Client,
    vectors: &LambdaTensors,
    grad_lambda: &Tensor,
) -> Result<LambdaTensors> {
    let views = vectors.views(client)?;
    check_grad_lambda(client, grad_lambda)?;
    let dim = views.dim;
    let grads = Tensor::empty(client, DType::F32, &[4, dim]);
    let incoming = View::flat(Operand::GradLambda, grad_lambda)?;
    let target = View::flat(Operand::GradLambdaVectors, &grads)?;
    let draft = plan_gradients(views, incoming, target);
    let bindings = vectors
        .bindings()
        .with(Operand::GradLambda, grad_lambda)
        .with(Operand::GradLambdaVectors, &grads);
    let written = Operand::GradLambdaVectors;
    run(client, "lambda gradient", draft, &bindings, written)?;
    let part = |i| Tensor::strided(grads.handle().clone(), DType::F32, i * dim, &[dim], &[1]);
    Ok(LambdaTensors {
        q1: part(0),
        k1: part(1),
        q2: part(2),
        k2: part(3),
    })
}

fn check_grad_lambda(client: &Client, grad_lambda: &Tensor) -> Result<()> {
    let operand = Operand::GradLambda;
    check_vector(operand, client, grad_lambda)?;
    check_size(operand, grad_lambda, "dim", grad_lambda.len(), 1)
}

fn check_vector(operand: Operand, client: &Client, vector: &Tensor) -> Result<()> {
    let (tensor, shape) = (operand.name(), vector.shape());
    if shape.len() != 1 {
        return Err(Error::Rank {
            tensor,
            got: shape.len(),
            expected: "[d]",
        });
    }
    if vector.is_empty() {
        return Err(Error::Empty {
            tensor,
            axis: "dim",
            shape: shape.to_vec(),
        });
    }
    vector.check_bounds(tensor)?;
    check_type(operand, vector, DType::F32)?;
    check_last_axis(operand, vector)?;
    check_device(operand, client, vector)
}
