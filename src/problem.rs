//! The problem a call solves: sizes, mask, scale, storage type, norm; and what it costs at least.

use core::ops::Range;

use crate::dtype::DType;

/// Which keys a query sees.
///
/// Bottom-right aligned: with `shift = key_len − query_len`, query `i` stands at key position `i + shift`, so the last
/// query always stands at the last key. A query that sees no key has output 0, log-sum-exp −∞ and gradient 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mask {
    /// Every query sees every key.
    #[default]
    None,
    /// Query `i` sees key `j` when `j ≤ i + shift`.
    Causal,
    /// Query `i` sees key `j` when `i + shift − left ≤ j ≤ i + shift + right`; `None` is no bound on that side.
    Window {
        /// Keys seen before the query's own position.
        left: Option<usize>,
        /// Keys seen after the query's own position.
        right: Option<usize>,
    },
}

impl Mask {
    /// Bounds on either side of the diagonal: keys seen before it and after it.
    pub fn sides(self) -> (Option<usize>, Option<usize>) {
        match self {
            Mask::None => (None, None),
            Mask::Causal => (None, Some(0)),
            Mask::Window { left, right } => (left, right),
        }
    }

    /// The keys that query `query` sees, possibly none.
    ///
    /// ```
    /// use diff_flash_attn::Mask;
    /// assert_eq!(Mask::Causal.visible(0, 2, 5), 0..4);
    /// assert_eq!(Mask::Window { left: Some(1), right: Some(0) }.visible(3, 4, 4), 2..4);
    /// assert!(Mask::Causal.visible(0, 5, 2).is_empty());
    /// ```
    pub fn visible(self, query: usize, query_len: usize, key_len: usize) -> Range<usize> {
        let (left, right) = self.sides();
        let clamp = |x: i128| x.clamp(0, key_len as i128) as usize;
        let diagonal = query as i128 + key_len as i128 - query_len as i128;
        let start = left.map_or(0, |left| clamp(diagonal - left as i128));
        let end = right.map_or(key_len, |right| clamp(diagonal + 1 + right as i128));
        start..end.max(start)
    }
}

/// Per-head RMS normalisation of the output: `γ · O · rsqrt(mean(O²) + eps) · (1 − λ_init)`, the mean over the value
/// dimension (Differential Transformer, arXiv 2410.05258, equation 3; γ is an input of its own).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Added to the mean square, at least 0. The paper's code uses 1e-5. With 0 a row of zeros stays zero, and so does
    /// its gradient.
    pub eps: f32,
    /// λ_init of the layer; the output is multiplied by `1 − λ_init`. See [`crate::lambda::lambda_init`].
    pub lambda_init: f32,
}

impl Norm {
    /// The constant factor `1 − λ_init`.
    pub fn factor(&self) -> f32 {
        1.0 - self.lambda_init
    }
}

/// Sizes and kind of one attention problem, differential (`maps = 2`) or standard (`maps = 1`).
///
/// ```
/// use diff_flash_attn::{DType, Mask, Problem};
/// // Two sequences of 128 queries and keys, four query heads on two heads of keys and values, d = 64, dv = 128.
/// let problem = Problem::differential([2, 128, 128], [4, 2], [64, 128])
///     .with_mask(Mask::Causal)
///     .with_dtype(DType::BF16);
/// assert_eq!((problem.group(), problem.scale), (2, 0.125));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Problem {
    /// Sequences in the batch, B.
    pub batch: usize,
    /// Queries of a sequence, Nq.
    pub query_len: usize,
    /// Keys of a sequence, Nk.
    pub key_len: usize,
    /// Query heads, H; each has `maps` queries.
    pub heads: usize,
    /// Key and value heads, Hk; H is a multiple of it.
    pub kv_heads: usize,
    /// Dimension of one query and one key, d.
    pub head_dim: usize,
    /// Dimension of a value and of the output, dv.
    pub value_dim: usize,
    /// Attention maps: 2 for differential attention, 1 for standard attention.
    pub maps: usize,
    /// Both maps use the same key (DIFF V2).
    pub shared_key: bool,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on the scores.
    pub scale: f32,
    /// Storage type of query, key, value, output and their gradients.
    pub dtype: DType,
    /// Normalisation of the output, if any.
    pub norm: Option<Norm>,
}

/// Which way through the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Output from inputs.
    Forward,
    /// Gradients of the inputs from the gradient of the output.
    Backward,
}

/// Which sides of a mask's band around the diagonal are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sides {
    pub left: bool,
    pub right: bool,
}

impl Problem {
    /// Attention with `maps` maps in `f32`, with no mask, no norm, a key for each map and the scale `1/√d`.
    ///
    /// Sizes are `[batch, query_len, key_len]`, `[heads, kv_heads]` and `[head_dim, value_dim]`.
    pub fn new(
        maps: usize,
        [batch, query_len, key_len]: [usize; 3],
        [heads, kv_heads]: [usize; 2],
        [head_dim, value_dim]: [usize; 2],
    ) -> Self {
        Self {
            batch,
            query_len,
            key_len,
            heads,
            kv_heads,
            head_dim,
            value_dim,
            maps,
            shared_key: false,
            mask: Mask::None,
            scale: 1.0 / (head_dim as f32).sqrt(),
            dtype: DType::F32,
            norm: None,
        }
    }

    /// Differential attention: two maps. Sizes and defaults are those of [`new`](Self::new).
    pub fn differential(sequences: [usize; 3], heads: [usize; 2], dims: [usize; 2]) -> Self {
        Self::new(2, sequences, heads, dims)
    }

    /// Standard attention: one map. Sizes and defaults are those of [`new`](Self::new).
    pub fn standard(sequences: [usize; 3], heads: [usize; 2], dims: [usize; 2]) -> Self {
        Self::new(1, sequences, heads, dims)
    }

    /// Sets the number of sequences.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the numbers of queries and keys of a sequence.
    pub fn with_lengths(mut self, [query_len, key_len]: [usize; 2]) -> Self {
        (self.query_len, self.key_len) = (query_len, key_len);
        self
    }

    /// Sets the numbers of query heads and of key and value heads.
    pub fn with_heads(mut self, [heads, kv_heads]: [usize; 2]) -> Self {
        (self.heads, self.kv_heads) = (heads, kv_heads);
        self
    }

    /// Sets head and value dimension; the scale stays.
    pub fn with_dims(mut self, [head_dim, value_dim]: [usize; 2]) -> Self {
        (self.head_dim, self.value_dim) = (head_dim, value_dim);
        self
    }

    /// Sets the number of attention maps.
    pub fn with_maps(mut self, maps: usize) -> Self {
        self.maps = maps;
        self
    }

    /// Both maps use the same key, or each its own.
    pub fn with_shared_key(mut self, shared: bool) -> Self {
        self.shared_key = shared;
        self
    }

    /// Sets the mask.
    pub fn with_mask(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    /// Sets the factor on the scores.
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the storage type.
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the norm of the output, or none.
    pub fn with_norm(mut self, norm: impl Into<Option<Norm>>) -> Self {
        self.norm = norm.into();
        self
    }

    /// Query heads that share one key and value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Keys stored for one key head: 1 if both maps share it.
    pub fn key_maps(&self) -> usize {
        if self.shared_key { 1 } else { self.maps }
    }

    /// (query, key) pairs that the mask lets through, over all sequences and heads.
    ///
    /// ```
    /// use diff_flash_attn::{DType, Direction, Mask, Problem};
    /// let problem = Problem::differential([2, 3, 3], [1, 1], [8, 16])
    ///     .with_mask(Mask::Causal)
    ///     .with_dtype(DType::F16);
    /// assert_eq!(problem.visible_pairs(), 2 * (1 + 2 + 3));
    /// // Query and key of 16 numbers a row, value and output of 16, λ in f32.
    /// assert_eq!(problem.bytes(Direction::Forward), 6 * (4 * 16 * 2 + 4));
    /// ```
    pub fn visible_pairs(&self) -> u64 {
        let row = |i| self.mask.visible(i, self.query_len, self.key_len).len() as u64;
        let pairs: u64 = (0..self.query_len).map(row).sum();
        pairs * (self.batch * self.heads) as u64
    }

    /// Floating-point operations of the matrix products, two for a multiply-add, over the visible pairs.
    ///
    /// Forward: `S_m = Q_m K_mᵀ` and `P_m V`. Backward, the fewest that suffice: `S_m` again, `dP = dO Vᵀ` and
    /// `dV = (P_1 − λ P_2)ᵀ dO` once for both maps, `dQ_m = dS_m K_m` and `dK_m = dS_mᵀ Q_m`. For d = 64, dv = 128 the
    /// backward costs what standard attention of the same width costs.
    ///
    /// ```
    /// use diff_flash_attn::{Direction, Problem};
    /// let differential = Problem::differential([1, 1024, 1024], [1, 1], [64, 128]);
    /// let standard = Problem::standard([1, 1024, 1024], [2, 2], [64, 64]);
    /// assert_eq!(differential.flops(Direction::Backward), standard.flops(Direction::Backward));
    /// ```
    pub fn flops(&self, direction: Direction) -> u64 {
        let (d, dv, maps) = (
            self.head_dim as u64,
            self.value_dim as u64,
            self.maps as u64,
        );
        let products = match direction {
            Direction::Forward => maps * (d + dv),
            Direction::Backward => 3 * maps * d + 2 * dv,
        };
        2 * products * self.visible_pairs()
    }

    /// Bytes that must move at least: each input read once, each output written once.
    ///
    /// Forward: query, key, value and λ, output. Backward: those, the gradient of the output, the saved outputs and
    /// statistics, and every gradient.
    pub fn bytes(&self, direction: Direction) -> u64 {
        let rows = self.batch * self.query_len * self.heads;
        let keys = self.batch * self.key_len * self.kv_heads;
        let query = rows * self.maps * self.head_dim;
        let key_value = keys * (self.key_maps() * self.head_dim + self.value_dim);
        let output = rows * self.value_dim;
        let lambda = if self.maps == 2 { rows } else { 0 };
        let (stored, single) = match direction {
            Direction::Forward => (query + key_value + output, lambda),
            Direction::Backward => (
                2 * (query + key_value) + (1 + self.maps) * output,
                2 * lambda + rows * self.maps,
            ),
        };
        (stored * self.dtype.size() + 4 * single) as u64
    }

    /// `[B, Nq, H, maps, d]`.
    pub(crate) fn query_shape(&self) -> [usize; 5] {
        let [batch, len, heads, _] = self.output_shape();
        [batch, len, heads, self.maps, self.head_dim]
    }

    /// `[B, Nk, Hk, maps, d]`, with one map where both share the key.
    pub(crate) fn key_shape(&self) -> [usize; 5] {
        let [batch, len, heads, _] = self.value_shape();
        [batch, len, heads, self.key_maps(), self.head_dim]
    }

    /// `[B, Nk, Hk, dv]`.
    pub(crate) fn value_shape(&self) -> [usize; 4] {
        [self.batch, self.key_len, self.kv_heads, self.value_dim]
    }

    /// `[B, Nq, H, dv]`.
    pub(crate) fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.query_len, self.heads, self.value_dim]
    }

    /// What is saved of a forward pass with two maps or a norm: `[B, Nq, H, maps, dv]`.
    pub(crate) fn outputs_shape(&self) -> [usize; 5] {
        let [batch, len, heads, dim] = self.output_shape();
        [batch, len, heads, self.maps, dim]
    }

    /// Log-sum-exp of every row of every map: `[B, H, maps, Nq]`.
    pub(crate) fn lse_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.maps, self.query_len]
    }

    /// Which sides of the mask are bounded, and by how much. A bound past every position is none.
    pub(crate) fn band(&self) -> (Sides, i32, i32) {
        let (left, right) = self.mask.sides();
        let reach = self.query_len + self.key_len;
        let bound = |side: Option<usize>| side.filter(|n| *n < reach);
        let (left, right) = (bound(left), bound(right));
        let sides = Sides {
            left: left.is_some(),
            right: right.is_some(),
        };
        (sides, left.unwrap_or(0) as i32, right.unwrap_or(0) as i32)
    }
}
