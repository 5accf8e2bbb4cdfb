//! Keys and values of the tokens seen so far, for generation one token at a time.

use burn::tensor::Tensor;

/// The keys and values of one attention layer, `[B, N, width]`, the keys turned by their positions.
///
/// A token costs one copy of what the attention to it reads anyway.
#[derive(Debug, Clone, Default)]
pub struct KeyValueCache {
    kept: Option<[Tensor<3>; 2]>,
}

impl KeyValueCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.kept.as_ref().map_or(0, |[key, _]| key.dims()[1])
    }

    /// Whether no token has been seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the keys and values of further tokens, and returns those of all.
    pub(super) fn append(&mut self, key: Tensor<3>, value: Tensor<3>) -> [Tensor<3>; 2] {
        let all = match self.kept.take() {
            None => [key, value],
            Some([keys, values]) => [
                Tensor::cat(vec![keys, key], 1),
                Tensor::cat(vec![values, value], 1),
            ],
        };
        self.kept = Some(all.clone());
        all
    }
}
