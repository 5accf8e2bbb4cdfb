//! The calls that between them launch every kernel with every setting that the library ships for GPUs.

use core::fmt;

use diff_flash_attn::tuning::{Family, MaskKind, Pass, Shipped, shipped};
use diff_flash_attn::{Client, DType, Inputs, Mask, Norm, Options, Problem, Tensor, Tuning};

/// Head and value dimensions, among them the greatest of every row of the portable kernels' table.
const DIMS: [[usize; 2]; 9] = [
    [16, 32],
    [32, 64],
    [40, 24],
    [64, 64],
    [64, 128],
    [96, 192],
    [128, 128],
    [128, 256],
    [256, 256],
];

/// Those of published models.
pub const PUBLISHED: [[usize; 2]; 3] = [[64, 128], [128, 128], [128, 256]];

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A window to both sides.
const WINDOW: Mask = Mask::Window {
    left: Some(128),
    right: Some(16),
};

const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.2,
};

/// A call: a problem, what else changes the code of its kernels, and the family that is asked for. Its
/// [`Display`](fmt::Display) form names it in reports.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The problem; kernels take lengths and numbers of heads at run time, so any will do.
    pub problem: Problem,
    /// λ for every token and head, not for every head only.
    pub token_lambda: bool,
    /// First element of each tensor in its buffer. It decides how wide loads and stores can be.
    pub offset: usize,
    /// The family that is asked for.
    pub family: Family,
}

/// Every call for the kernels of one family.
pub fn entries(family: Family) -> Vec<Entry> {
    match family {
        Family::Portable => portable(),
        Family::Mma => mma(),
        _ => rows(family),
    }
}

/// The calls for the portable kernels: all dimensions with the most and the least that a kernel can be asked for, those of
/// published models with something of everything between.
fn portable() -> Vec<Entry> {
    let entry = |problem: Problem| Entry {
        problem,
        token_lambda: false,
        offset: 0,
        family: Family::Portable,
    };
    let of = |maps, dims| Problem::new(maps, [1, 512, 512], [4, 2], dims);
    let full = |dims| of(2, dims).with_mask(Mask::Causal).with_norm(NORM);
    let plain = |dims| of(1, dims);
    let mut entries = Vec::new();
    for dims in DIMS {
        let both = DTYPES.map(|dtype| [full(dims), plain(dims)].map(|it| it.with_dtype(dtype)));
        entries.extend(both.into_iter().flatten().map(entry));
    }
    // The code for f16 and bf16 differs in its loads and stores alone.
    for (dims, dtype) in PUBLISHED
        .iter()
        .flat_map(|dims| [DType::F32, DType::BF16].map(|it| (*dims, it)))
    {
        let windowed = of(2, dims).with_mask(WINDOW).with_norm(NORM);
        let shared = of(2, dims).with_mask(Mask::Causal).with_shared_key(true);
        let standard = of(1, dims).with_mask(Mask::Causal).with_norm(NORM);
        let others = [of(2, dims), windowed, shared, standard];
        entries.extend(others.map(|problem| Entry {
            token_lambda: problem.mask == WINDOW,
            ..entry(problem.with_dtype(dtype))
        }));
    }
    entries.extend([1, 2, 4].map(|offset| Entry {
        offset,
        ..entry(full([64, 128]).with_dtype(DType::F16))
    }));
    entries
}

/// Head and value dimensions for `mma.sync`, among them the greatest of every row of the family's table.
const MMA_DIMS: [[usize; 2]; 8] = [
    [32, 64],
    [64, 64],
    [64, 128],
    [96, 192],
    [128, 128],
    [192, 128],
    [128, 256],
    [256, 256],
];

/// The calls for `mma.sync`: all dimensions with the most and the least that a kernel can be asked for, those of published
/// models in both types and with something of everything between.
fn mma() -> Vec<Entry> {
    let entry = |problem: Problem| Entry {
        problem,
        token_lambda: false,
        offset: 0,
        family: Family::Mma,
    };
    let of = |maps, dims| Problem::new(maps, [1, 512, 512], [4, 2], dims).with_dtype(DType::BF16);
    let full = |dims| of(2, dims).with_mask(Mask::Causal).with_norm(NORM);
    let mut problems = Vec::new();
    for dims in MMA_DIMS {
        let standard = of(1, dims).with_mask(Mask::Causal).with_norm(NORM);
        problems.extend([full(dims), standard]);
    }
    for dims in PUBLISHED {
        let windowed = of(2, dims).with_mask(WINDOW).with_norm(NORM);
        let shared = of(2, dims).with_mask(Mask::Causal).with_shared_key(true);
        problems.extend([
            full(dims).with_dtype(DType::F16),
            of(2, dims),
            windowed,
            shared,
        ]);
    }
    problems.into_iter().map(entry).collect()
}

/// Every row of a family's table, in both types, with all that its kernel can be asked for; then what else changes the code.
fn rows(family: Family) -> Vec<Entry> {
    let rows = || shipped().filter(move |row| row.settings.family() == family);
    let halves = |row: Shipped| [DType::BF16, DType::F16].map(|dtype| of_row(&row, dtype));
    let mut entries: Vec<Entry> = rows().flat_map(halves).collect();
    // Shared keys: the gradients' kernels then have sums of another shape.
    let gradients = rows().filter(|row| row.maps == 2 && row.pass == Pass::KeyValueGradient);
    entries.extend(gradients.map(|row| {
        let entry = of_row(&row, DType::BF16);
        let problem = entry.problem.with_shared_key(true);
        Entry { problem, ..entry }
    }));
    // One row for each number of maps, with less asked for, and with keys shared.
    for (maps, shared) in [(2, true), (2, false), (1, false)] {
        let dims = |row: &Shipped| (row.maps, row.head_dim, row.value_dim) == (maps, 128, 128);
        let row = rows().find(|row| dims(row) && row.mask != Some(MaskKind::Causal));
        entries.extend(row.map(|row| {
            let entry = of_row(&row, DType::BF16);
            let problem = entry.problem.with_norm(None).with_shared_key(shared);
            Entry { problem, ..entry }
        }));
    }
    entries
}

/// A call that gets a row's settings.
pub fn of_row(row: &Shipped, dtype: DType) -> Entry {
    let mask = match row.mask {
        None | Some(MaskKind::Full) => Mask::None,
        Some(MaskKind::Causal) => Mask::Causal,
        Some(MaskKind::Window) => WINDOW,
    };
    let dims = [row.head_dim, row.value_dim];
    let problem = Problem::new(row.maps, [1, 512, 512], [4, 2], dims)
        .with_mask(mask)
        .with_dtype(dtype)
        .with_norm(NORM);
    Entry {
        problem,
        token_lambda: false,
        offset: 0,
        family: row.settings.family(),
    }
}

impl Entry {
    /// Inputs with undefined contents.
    pub fn inputs(&self, client: &Client) -> Inputs {
        let p = &self.problem;
        let [rows, keys] = [
            [p.batch, p.query_len, p.heads],
            [p.batch, p.key_len, p.kv_heads],
        ];
        let single = |shape: &[usize]| Tensor::empty(client, DType::F32, shape);
        let of = |axes: [usize; 3], maps: usize, dim: usize| match p.maps {
            1 => self.empty(client, &[&axes[..], &[dim]].concat()),
            _ => self.empty(client, &[&axes[..], &[maps, dim]].concat()),
        };
        let lambda = (p.maps == 2).then(|| match self.token_lambda {
            true => single(&rows),
            false => single(&rows[2..]),
        });
        let value = self.empty(client, &[&keys[..], &[p.value_dim]].concat());
        let query = of(rows, p.maps, p.head_dim);
        let key = of(keys, p.key_maps(), p.head_dim);
        Inputs::standard(query, key, value)
            .with_lambda(lambda)
            .with_gamma(p.norm.map(|_| single(&[p.value_dim])))
    }

    /// A row-major tensor at the entry's offset, with undefined contents.
    pub fn empty(&self, client: &Client, shape: &[usize]) -> Tensor {
        let dtype = self.problem.dtype;
        let len = self.offset + shape.iter().product::<usize>();
        let buffer = Tensor::empty(client, dtype, &[len]);
        let stride = |axis: usize| shape[axis + 1..].iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
        Tensor::strided(buffer.handle().clone(), dtype, self.offset, shape, &strides)
    }

    /// The options that pose the problem to the family.
    pub fn options(&self) -> Options {
        Options::default()
            .with_mask(self.problem.mask)
            .with_scale(self.problem.scale)
            .with_norm(self.problem.norm)
            .with_tuning(Tuning::of(self.family))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.problem;
        let maps = if p.maps == 2 {
            "differential"
        } else {
            "standard"
        };
        write!(f, "d{} dv{} {} {maps}", p.head_dim, p.value_dim, p.dtype)?;
        let window = matches!(p.mask, Mask::Window { .. });
        for (is, word) in [
            (p.mask == Mask::Causal, " causal"),
            (window, " window"),
            (p.norm.is_some(), " norm"),
            (self.token_lambda, " token-λ"),
            (p.shared_key, " shared-key"),
        ] {
            if is {
                f.write_str(word)?;
            }
        }
        match self.offset {
            0 => Ok(()),
            offset => write!(f, " offset {offset}"),
        }
    }
}
