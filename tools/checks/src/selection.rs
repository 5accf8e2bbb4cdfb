//! A covering selection of what a caller can choose.
//!
//! A kernel is compiled for head dimensions, maps, sides of the mask, norm, storage type and alignment; everything else
//! is a number given to it. Compiling takes nearly all the time, so the selection has two levels: a table of kernels in
//! which every pair of those choices occurs, and a few launches of each, drawn until every pair of any two choices
//! occurs. Head dimensions are paired with lengths alone, since tiles meet those: the rest of the code does not know them.

use std::collections::HashSet;
use std::sync::OnceLock;

use diff_flash_attn::{Client, DType, Mask, Norm, Problem, Tuning};

use crate::cases::Case;
use crate::device::{Layout, checks, run, supports};
use crate::tolerance::Check;

use DType::{BF16, F16, F32};
use Kind::{Differential, SharedKey, Standard};
use Layout::{HalfSplit, HeadsFirst, Interleaved, Unaligned};
use Normalisation::{Absent, Plain, Weighted};
use Visible::{Ahead, All, Around, Behind, Causal, Sliding};

/// (Nq, Nk): single rows, more queries than keys, and lengths that no tile divides.
const LENGTHS: [(usize, usize); 6] = [(1, 1), (239, 1), (1, 97), (65, 64), (128, 217), (113, 203)];
/// (B, H, Hk): a key for every head, for every three, for all.
const HEADS: [(usize, usize, usize); 3] = [(2, 3, 3), (1, 6, 2), (1, 3, 1)];
const LAMBDAS: [Lambda; 3] = [Lambda::Scalar, Lambda::Head, Lambda::Token];
const ALIGNED: &[Layout] = &[Interleaved, HalfSplit, HeadsFirst];
const PADDED: &[Layout] = &[Unaligned];

/// Which attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two maps, each with its key.
    Differential,
    /// Two maps of one key.
    SharedKey,
    /// One map.
    Standard,
}

/// The norm of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalisation {
    /// None.
    Absent,
    /// Without γ.
    Plain,
    /// With γ.
    Weighted,
}

/// What λ is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lambda {
    /// Everything at once.
    Scalar,
    /// Every head.
    Head,
    /// Every token and head.
    Token,
}

/// The mask, its window a part of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// Every key.
    All,
    /// Keys up to the query's own.
    Causal,
    /// Some keys after it, and all before.
    Ahead,
    /// Some keys before it, and all after.
    Behind,
    /// Some keys to either side.
    Around,
    /// Some keys before it, none after.
    Sliding,
}

impl Visible {
    fn mask(self, key_len: usize) -> Mask {
        let (left, right) = (Some(key_len / 3), Some(key_len / 5));
        let window = |left, right| Mask::Window { left, right };
        match self {
            All => Mask::None,
            Causal => Mask::Causal,
            Ahead => window(None, right),
            Behind => window(left, None),
            Around => window(left, right),
            Sliding => window(left, Some(0)),
        }
    }
}

/// What a kernel is compiled for. Masks that bound the same sides share one.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Dimensions of a head and of its value.
    pub dims: (usize, usize),
    masks: &'static [Visible],
    kind: Kind,
    norm: Normalisation,
    dtype: DType,
    layouts: &'static [Layout],
}

const fn kernel(
    dims: (usize, usize),
    masks: &'static [Visible],
    kind: Kind,
    norm: Normalisation,
    dtype: DType,
    layouts: &'static [Layout],
) -> Kernel {
    Kernel {
        dims,
        masks,
        kind,
        norm,
        dtype,
        layouts,
    }
}

const NO_SIDE: &[Visible] = &[All];
const RIGHT: &[Visible] = &[Causal, Ahead];
const LEFT: &[Visible] = &[Behind];
const BOTH: &[Visible] = &[Around, Sliding];

/// Every pair of choices but those with the head dimensions, as few expensive kernels as that takes.
#[rustfmt::skip]
pub const KERNELS: [Kernel; 18] = [
    //     (d, dv)     mask     maps          norm      type  layout
    kernel(( 16,  32), NO_SIDE, Differential, Weighted, F16,  PADDED),
    kernel(( 16,  32), RIGHT,   Differential, Plain,    F32,  ALIGNED),
    kernel(( 16,  32), BOTH,    Standard,     Absent,   BF16, ALIGNED),
    kernel(( 16,  32), LEFT,    SharedKey,    Weighted, BF16, PADDED),
    kernel(( 40,  24), NO_SIDE, Differential, Weighted, F32,  ALIGNED),
    kernel(( 40,  24), RIGHT,   Differential, Absent,   F16,  ALIGNED),
    kernel(( 40,  24), BOTH,    SharedKey,    Plain,    F16,  PADDED),
    kernel(( 40,  24), LEFT,    Standard,     Absent,   F32,  ALIGNED),
    kernel(( 32,  64), NO_SIDE, SharedKey,    Absent,   F32,  ALIGNED),
    kernel(( 32,  64), RIGHT,   Standard,     Weighted, F32,  PADDED),
    kernel(( 32,  64), BOTH,    Differential, Plain,    F32,  ALIGNED),
    kernel(( 32,  64), LEFT,    Differential, Weighted, F32,  ALIGNED),
    kernel(( 64,  64), RIGHT,   Differential, Weighted, BF16, ALIGNED),
    kernel(( 64,  64), LEFT,    Standard,     Absent,   F16,  PADDED),
    kernel(( 64, 128), BOTH,    Differential, Weighted, F32,  ALIGNED),
    kernel(( 64, 128), NO_SIDE, Standard,     Plain,    BF16, ALIGNED),
    kernel((128, 256), LEFT,    Differential, Plain,    F32,  ALIGNED),
    kernel((128, 256), RIGHT,   SharedKey,    Weighted, F32,  ALIGNED),
];

/// One problem for a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// The kernel.
    pub kernel: Kernel,
    visible: Visible,
    lengths: (usize, usize),
    heads: (usize, usize, usize),
    lambda: Lambda,
    layout: Layout,
}

impl Launch {
    /// Every problem that the kernel solves.
    fn all(kernel: Kernel) -> impl Iterator<Item = Launch> {
        let lambdas = if kernel.kind == Standard {
            &LAMBDAS[..1]
        } else {
            &LAMBDAS[..]
        };
        let masks_layouts = kernel
            .masks
            .iter()
            .flat_map(move |visible| kernel.layouts.iter().map(move |l| (visible, l)));
        masks_layouts.flat_map(move |(&visible, &layout)| {
            LENGTHS.into_iter().flat_map(move |lengths| {
                HEADS.into_iter().flat_map(move |heads| {
                    lambdas.iter().map(move |&lambda| Launch {
                        kernel,
                        visible,
                        lengths,
                        heads,
                        lambda,
                        layout,
                    })
                })
            })
        })
    }

    /// Its choices by name, λ's only where there is one.
    pub fn choices(&self) -> Vec<String> {
        let Launch {
            kernel,
            visible,
            lengths,
            heads,
            lambda,
            layout,
        } = self;
        let Kernel {
            dims,
            kind,
            norm,
            dtype,
            ..
        } = kernel;
        let mut choices = vec![
            format!("d, dv {dims:?}"),
            format!("Nq, Nk {lengths:?}"),
            format!("{kind:?}"),
            format!("norm {norm:?}"),
            format!("{dtype}"),
            format!("sees {visible:?}"),
            format!("B, H, Hk {heads:?}"),
            format!("{layout:?}"),
        ];
        if *kind != Standard {
            choices.push(format!("λ {lambda:?}"));
        }
        choices
    }

    /// Every two of its choices that are to occur together.
    pub fn pairs(&self) -> Vec<[String; 2]> {
        let choices = self.choices();
        let mut pairs = vec![];
        for (second, value) in choices.iter().enumerate() {
            let firsts = (0..second).filter(|first| matter(*first, second));
            pairs.extend(firsts.map(|first| [choices[first].clone(), value.clone()]));
        }
        pairs
    }

    /// Its name and what comes out of it on the device, compared; the `seed` draws its numbers.
    pub fn compare(&self, client: &Client, seed: u64) -> (String, Vec<Check>) {
        let dtype = storable(client, self.kernel.dtype);
        let mut name = self.choices().join(", ");
        if dtype != self.kernel.dtype {
            name += " (run in f32)";
        }
        let case = self.case(dtype, seed);
        let ours = run(client, &case, self.layout, Tuning::default());
        (name, checks(&case, &ours))
    }

    /// Its inputs, stored in `dtype`; the `seed` draws their numbers.
    pub fn case(&self, dtype: DType, seed: u64) -> Case {
        let Launch {
            kernel,
            visible,
            lengths: (query_len, key_len),
            heads: (batch, heads, kv_heads),
            ..
        } = *self;
        let (head_dim, value_dim) = kernel.dims;
        let norm = Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        };
        let problem = Problem::new(
            if kernel.kind == Standard { 1 } else { 2 },
            [batch, query_len, key_len],
            [heads, kv_heads],
            [head_dim, value_dim],
        )
        .with_shared_key(kernel.kind == SharedKey)
        .with_mask(visible.mask(key_len))
        .with_dtype(dtype)
        .with_norm((kernel.norm != Absent).then_some(norm));
        let lambda: &[usize] = match self.lambda {
            Lambda::Scalar => &[1],
            Lambda::Head => &[heads],
            Lambda::Token => &[batch, query_len, heads],
        };
        Case::random(problem, lambda, kernel.norm == Weighted, seed)
    }
}

/// Whether two of the [`Launch::choices`] are paired.
pub fn matter(first: usize, second: usize) -> bool {
    first > 0 || second == 1
}

/// The launches of every kernel: one of many tiles, then those that add new pairs to all before, most of them first.
pub fn selection() -> &'static [Launch] {
    static SELECTION: OnceLock<Vec<Launch>> = OnceLock::new();
    SELECTION.get_or_init(|| {
        let with_pairs = |launch: Launch| (launch, launch.pairs());
        let all = KERNELS.map(|kernel| Launch::all(kernel).map(with_pairs).collect::<Vec<_>>());
        let mut seen: HashSet<[String; 2]> = HashSet::new();
        let mut selected: Vec<Launch> = vec![];
        for round in 0.. {
            let before = seen.len();
            for launches in &all {
                let long = |launch: &Launch| launch.lengths.0 * launch.lengths.1 > 4000;
                let gain = |pairs: &[[String; 2]]| {
                    pairs.iter().filter(|pair| !seen.contains(*pair)).count()
                };
                let launches = launches
                    .iter()
                    .filter(|(launch, _)| round > 0 || long(launch));
                let Some((launch, pairs)) = launches.max_by_key(|(_, pairs)| gain(pairs)) else {
                    continue;
                };
                if round == 0 || gain(pairs) > 0 {
                    selected.push(*launch);
                    seen.extend(pairs.iter().cloned());
                }
            }
            if seen.len() == before {
                break;
            }
        }
        selected
    })
}

/// The storage type, or `f32` where the device lacks it: the rest of the case is worth running.
fn storable(client: &Client, dtype: DType) -> DType {
    static LACKING: OnceLock<Vec<DType>> = OnceLock::new();
    let lacking = LACKING.get_or_init(|| {
        [F16, BF16]
            .into_iter()
            .filter(|dtype| !supports(client, *dtype))
            .collect()
    });
    if lacking.contains(&dtype) { F32 } else { dtype }
}
