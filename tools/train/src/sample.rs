//! Text that a model continues, one token at a time with a cache.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use diff_flash_attn::burn::{DecoderCache, DiffTransformer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How the next token is chosen.
#[derive(Clone, Copy)]
pub(crate) enum Choice {
    /// The likeliest.
    Greedy,
    /// At random, with logits divided by the temperature.
    Random {
        /// What logits are divided by.
        temperature: f64,
        /// Start of the random numbers.
        seed: u64,
    },
}

/// The tokens that follow `prompt`.
pub(crate) fn continue_text(
    model: &DiffTransformer,
    prompt: &[u32],
    count: usize,
    choice: Choice,
    device: &Device,
) -> Vec<u32> {
    let mut random = StdRng::seed_from_u64(match choice {
        Choice::Greedy => 0,
        Choice::Random { seed, .. } => seed,
    });
    let mut cache = DecoderCache::new();
    let mut next = prompt.to_vec();
    let mut found = Vec::new();
    while found.len() < count {
        let ids: Vec<i32> = next.iter().map(|id| *id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, next.len()]), device);
        let logits = model.forward_cached(ids, &mut cache);
        let token = choose(logits.narrow(1, next.len() - 1, 1), choice, &mut random);
        found.push(token);
        next = vec![token];
    }
    found
}

fn choose(logits: Tensor<3>, choice: Choice, random: &mut StdRng) -> u32 {
    let temperature = match choice {
        Choice::Greedy => return logits.argmax(2).into_scalar::<u32>(),
        Choice::Random { temperature, .. } => temperature,
    };
    let probabilities = softmax(logits / temperature, 2).into_data();
    let mut left: f32 = random.random_range(0.0..1.0);
    let mut last = 0;
    for (token, probability) in probabilities.iter::<f32>().enumerate() {
        last = token as u32;
        left -= probability;
        if left < 0.0 {
            break;
        }
    }
    last
}
