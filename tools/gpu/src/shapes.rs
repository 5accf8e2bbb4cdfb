//! What is timed: the layers of published models.

use diff_flash_attn::{DType, Mask, Problem};

/// Attention of one model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) dims: (usize, usize),
    /// Both maps use one key (DIFF V2).
    pub(crate) shared_key: bool,
    /// Keys that a query sees, its own included, if not all before it.
    pub(crate) window: Option<usize>,
}

/// The models: the paper's 3B, Phi-4-mini-flash with and without its window, DIFF V2.
pub(crate) const MODELS: [Model; 4] = [
    Model {
        name: "DIFF 3B",
        heads: 12,
        kv_heads: 12,
        dims: (128, 256),
        shared_key: false,
        window: None,
    },
    Model {
        name: "Phi-4-mini-flash",
        heads: 20,
        kv_heads: 10,
        dims: (64, 128),
        shared_key: false,
        window: None,
    },
    Model {
        name: "Phi-4-mini-flash, window",
        heads: 20,
        kv_heads: 10,
        dims: (64, 128),
        shared_key: false,
        window: Some(512),
    },
    Model {
        name: "DIFF V2",
        heads: 16,
        kv_heads: 4,
        dims: (128, 128),
        shared_key: true,
        window: None,
    },
];

impl Model {
    /// Differential attention over `batch` sequences of `len` tokens.
    pub(crate) fn problem(&self, [batch, len]: [usize; 2], causal: bool, dtype: DType) -> Problem {
        let mask = match (self.window, causal) {
            (Some(window), _) => Mask::Window {
                left: Some(window - 1),
                right: Some(0),
            },
            (None, true) => Mask::Causal,
            (None, false) => Mask::None,
        };
        let (head_dim, value_dim) = self.dims;
        Problem::differential(
            [batch, len, len],
            [self.heads, self.kv_heads],
            [head_dim, value_dim],
        )
        .with_shared_key(self.shared_key)
        .with_mask(mask)
        .with_dtype(dtype)
    }
}

/// A problem in words, as far as its kernel and its time depend on it.
pub(crate) fn name(problem: &Problem) -> String {
    let Problem {
        batch,
        query_len,
        key_len,
        head_dim,
        value_dim,
        maps,
        dtype,
        ..
    } = problem;
    let mask = match problem.mask {
        Mask::None => "full",
        Mask::Causal => "causal",
        Mask::Window { .. } => "window",
    };
    let maps = ["standard", "differential"][maps - 1];
    let key = if problem.shared_key {
        " shared-key"
    } else {
        ""
    };
    format!("d{head_dim} dv{value_dim} {dtype} {mask} {maps}{key} {batch}×{query_len}×{key_len}")
}

/// Standard attention whose projections are as wide: twice the query heads of the same dimension. Values are halved with
/// them, but for DIFF V2, whose maps are as wide as its values.
pub(crate) fn standard(differential: &Problem) -> Problem {
    let same = (*differential)
        .with_heads([2 * differential.heads, (*differential).kv_heads])
        .with_maps(1)
        .with_shared_key(false);
    if differential.shared_key {
        return same;
    }
    same.with_heads([same.heads, 2 * differential.kv_heads])
        .with_dims([same.head_dim, differential.value_dim / 2])
}
