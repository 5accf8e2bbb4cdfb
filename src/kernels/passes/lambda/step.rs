//! The launches of λ and of its vectors' gradients.

use cubecl::prelude::*;

use super::Vectors;
use super::kernel::{LAMBDA_UNITS, LambdaAtLaunch, lambda_from_vectors, lambda_vector_gradients};
use crate::dtype::DType;
use crate::plan::{Bound, Description, Step, View};

/// λ from its vectors.
#[derive(Debug)]
pub(super) struct FromVectors {
    pub vectors: Vectors,
    pub lambda: View,
    pub initial: f32,
}

/// Gradients of the vectors from that of λ.
#[derive(Debug)]
pub(super) struct VectorGradients {
    pub vectors: Vectors,
    pub grad_lambda: View,
    pub target: View,
}

impl Step for FromVectors {
    fn describe(&self) -> Description {
        describe("lambda_from_vectors", &self.vectors).writing(&[&self.lambda])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [q1, k1, q2, k2] = self.vectors.views.map(|view| bound.buffer(&view));
        // SAFETY: the kernel reads `dim` elements of each vector from its offset on, which lie inside its buffer.
        unsafe {
            lambda_from_vectors::launch_unchecked(
                client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(LAMBDA_UNITS as u32),
                q1,
                k1,
                q2,
                k2,
                bound.buffer(&self.lambda),
                at(&self.vectors),
                self.initial,
            );
        }
    }
}

impl Step for VectorGradients {
    fn describe(&self) -> Description {
        describe("lambda_vector_gradients", &self.vectors)
            .reading(&[&self.grad_lambda])
            .writing(&[&self.target])
    }

    unsafe fn enqueue(&self, client: &Client, bound: &Bound) {
        let [q1, k1, q2, k2] = self.vectors.views.map(|view| bound.buffer(&view));
        // SAFETY: as above; the target holds four vectors.
        unsafe {
            lambda_vector_gradients::launch_unchecked(
                client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(LAMBDA_UNITS as u32),
                q1,
                k1,
                q2,
                k2,
                bound.buffer(&self.grad_lambda),
                bound.buffer(&self.target),
                at(&self.vectors),
                self.grad_lambda.offset(),
            );
        }
    }
}

fn describe(kernel: &'static str, vectors: &Vectors) -> Description {
    let [q1, k1, q2, k2] = &vectors.views;
    // Two products are summed over the units through shared memory.
    let bytes = 2 * LAMBDA_UNITS * DType::F32.size();
    Description::new(kernel, DType::F32, [1; 3], LAMBDA_UNITS)
        .sharing(bytes)
        .reading(&[q1, k1, q2, k2])
}

fn at(vectors: &Vectors) -> LambdaAtLaunch {
    let [q1, k1, q2, k2] = vectors.views.map(|view| view.offset());
    LambdaAtLaunch::new(vectors.dim as u32, q1, k1, q2, k2)
}
