//! λ and its gradient computed where the vectors are, so that a training step need not wait for the host.

use cubecl::prelude::*;

use crate::attention::check::{check_device, check_last_axis, check_type};
use crate::attention::launch::{buffer as argument, check_launch};
use crate::error::{Error, Result};
use crate::kernels::passes::lambda::kernel::{
    LAMBDA_UNITS, LambdaAtLaunch, lambda_from_vectors, lambda_vector_gradients,
};
use crate::tensor::{DType, Tensor};

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
    /// Name and tensor of each vector.
    fn named(&self) -> [(&'static str, &Tensor); 4] {
        let Self { q1, k1, q2, k2 } = self;
        [
            ("lambda_q1", q1),
            ("lambda_k1", k1),
            ("lambda_q2", q2),
            ("lambda_k2", k2),
        ]
    }

    /// Checks them and returns d.
    fn check(&self, client: &Client) -> Result<usize> {
        let expected = self.q1.len();
        for (tensor, vector) in self.named() {
            check_vector(client, tensor, vector)?;
            if vector.len() != expected {
                let (axis, got, shape) = ("dim", vector.len(), vector.shape().to_vec());
                return Err(Error::Size {
                    tensor,
                    axis,
                    got,
                    expected,
                    shape,
                });
            }
        }
        Ok(expected)
    }

    fn buffers(&self) -> [BufferArg; 4] {
        self.named().map(|(_, vector)| argument(vector))
    }

    fn at(&self, dim: usize) -> LambdaAtLaunch {
        let [q1, k1, q2, k2] = self.named().map(|(_, vector)| vector.offset() as u32);
        LambdaAtLaunch::new(dim as u32, q1, k1, q2, k2)
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
    let dim = vectors.check(client)?;
    let lambda = Tensor::empty(client, DType::F32, &[1]);
    let [q1, k1, q2, k2] = vectors.buffers();
    // SAFETY: the kernel reads `dim` elements of each vector from its offset on, which `check` found inside its buffer.
    unsafe {
        lambda_from_vectors::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(LAMBDA_UNITS as u32),
            q1,
            k1,
            q2,
            k2,
            argument(&lambda),
            vectors.at(dim),
            lambda_init,
        );
    }
    check_launch(client, "lambda", &lambda)?;
    Ok(lambda)
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
    let dim = vectors.check(client)?;
    check_grad_lambda(client, grad_lambda)?;
    let grads = Tensor::empty(client, DType::F32, &[4, dim]);
    let [q1, k1, q2, k2] = vectors.buffers();
    // SAFETY: as in `lambda_on_device`; `grads` holds four vectors.
    unsafe {
        lambda_vector_gradients::launch_unchecked(
            client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(LAMBDA_UNITS as u32),
            q1,
            k1,
            q2,
            k2,
            argument(grad_lambda),
            argument(&grads),
            vectors.at(dim),
            grad_lambda.offset() as u32,
        );
    }
    check_launch(client, "lambda gradient", &grads)?;
    let part = |i| Tensor::strided(grads.handle().clone(), DType::F32, i * dim, &[dim], &[1]);
    Ok(LambdaTensors {
        q1: part(0),
        k1: part(1),
        q2: part(2),
        k2: part(3),
    })
}

fn check_grad_lambda(client: &Client, grad_lambda: &Tensor) -> Result<()> {
    let tensor = "gradient of lambda";
    check_vector(client, tensor, grad_lambda)?;
    let got = grad_lambda.len();
    if got != 1 {
        return Err(Error::Size {
            tensor,
            axis: "dim",
            got,
            expected: 1,
            shape: vec![got],
        });
    }
    Ok(())
}

fn check_vector(client: &Client, tensor: &'static str, vector: &Tensor) -> Result<()> {
    let shape = vector.shape();
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
    check_type(tensor, vector, DType::F32)?;
    check_last_axis(tensor, vector)?;
    check_device(client, &[(tensor, vector)])
}
