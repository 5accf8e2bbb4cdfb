//! Random tensors of a model, made once and read as sequences of any length.

use anyhow::Result;
use diff_flash_attn::{
    Client, DType, Gradients, Inputs, Options, Problem, Saved, Tensor, backward_into, forward,
    forward_into,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Buffers that hold any problem of as many tokens, heads and dimensions, differential or standard.
pub(crate) struct Data {
    client: Client,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lambda: Tensor,
    grad_output: Tensor,
}

/// λ of every head.
const LAMBDA: f32 = 0.5;

impl Data {
    /// Uniform with mean 0 and variance 1, so that scores have variance 1 too; the same at every run.
    pub(crate) fn random(client: &Client, problem: &Problem) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(1);
        let mut tensor = |len: usize| {
            let values: Vec<f32> = (0..len)
                .map(|_| 3f32.sqrt() * random.random_range(-1.0..1.0))
                .collect();
            Tensor::from_f32(client, problem.dtype, &[len], &values)
        };
        let rows = problem.batch * problem.query_len * problem.heads;
        let keys = problem.batch * problem.key_len * problem.kv_heads;
        Ok(Self {
            client: client.clone(),
            query: tensor(rows * problem.maps * problem.head_dim)?,
            key: tensor(keys * problem.key_maps() * problem.head_dim)?,
            value: tensor(keys * problem.value_dim)?,
            lambda: Tensor::from_f32(client, DType::F32, &[1], &[LAMBDA])?,
            grad_output: tensor(rows * problem.value_dim)?,
        })
    }

    fn inputs(&self, problem: &Problem) -> Inputs {
        let rows = [problem.batch, problem.query_len, problem.heads];
        let keys = [problem.batch, problem.key_len, problem.kv_heads];
        let with = |outer: [usize; 3], inner: &[usize]| [&outer[..], inner].concat();
        let (d, dv) = (problem.head_dim, problem.value_dim);
        let value = view(&self.value, &with(keys, &[dv]));
        if problem.maps == 1 {
            let query = view(&self.query, &with(rows, &[d]));
            return Inputs::standard(query, view(&self.key, &with(keys, &[d])), value);
        }
        let query = view(&self.query, &with(rows, &[2, d]));
        let key = view(&self.key, &with(keys, &[problem.key_maps(), d]));
        Inputs::differential(query, key, value, self.lambda.clone())
    }

    /// A forward pass that saves nothing.
    pub(crate) fn forward<'a>(
        &'a self,
        problem: &Problem,
        options: Options,
    ) -> Result<(Inputs, impl Fn() -> Result<()> + Send + Sync + use<'a>)> {
        let inputs = self.inputs(problem);
        let output = forward(&self.client, &inputs, &options)?.output;
        let call = {
            let inputs = inputs.clone();
            move || {
                Ok(forward_into(
                    &self.client,
                    &inputs,
                    &options,
                    &output,
                    None,
                )?)
            }
        };
        Ok((inputs, call))
    }

    /// A backward pass, without the forward pass before it.
    pub(crate) fn backward<'a>(
        &'a self,
        problem: &Problem,
        options: Options,
    ) -> Result<impl Fn() -> Result<()> + Send + Sync + use<'a>> {
        let inputs = self.inputs(problem);
        let keep = options.with_save_for_backward(true);
        let saved = forward(&self.client, &inputs, &keep)?.saved;
        let saved: Saved = saved.expect("asked for");
        let rows = [
            problem.batch,
            problem.query_len,
            problem.heads,
            problem.value_dim,
        ];
        let grad_output = view(&self.grad_output, &rows);
        let like = |tensor: &Tensor| Tensor::empty(&self.client, tensor.dtype(), tensor.shape());
        let gradients = Gradients::new(like(&inputs.query), like(&inputs.key), like(&inputs.value))
            .with_lambda(inputs.lambda.as_ref().map(like));
        Ok(move || {
            let client = &self.client;
            Ok(backward_into(
                client,
                &inputs,
                &saved,
                &grad_output,
                &options,
                &gradients,
            )?)
        })
    }
}

/// A buffer from its start, row-major in another shape.
fn view(buffer: &Tensor, shape: &[usize]) -> Tensor {
    Tensor::contiguous(buffer.handle().clone(), buffer.dtype(), shape)
}
