//! The calls of the library that between them launch every kernel with every setting that it ships for GPUs.

use std::collections::HashSet;

use anyhow::{Context, Result};
use cuda_device::{Arch, Recorder};
use diff_flash_attn::tuning::{HopperSettings, HopperShipped, MaskKind, hopper_shipped};
use diff_flash_attn::{DType, Mask};

use crate::Item;
use crate::case::{Case, Variant};

/// Head and value dimensions, among them the greatest of every row of the library's table.
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
const PUBLISHED: [[usize; 2]; 3] = [[64, 128], [128, 128], [128, 256]];

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The most that a kernel can be asked for.
const FULL: Variant = Variant {
    name: "differential causal norm",
    maps: 2,
    shared_key: false,
    mask: Mask::Causal,
    norm: true,
    token_lambda: false,
};

/// The least.
const PLAIN: Variant = Variant {
    name: "standard",
    maps: 1,
    mask: Mask::None,
    norm: false,
    ..FULL
};

/// Something of everything between.
const OTHERS: [Variant; 4] = [
    Variant {
        name: "differential",
        mask: Mask::None,
        norm: false,
        ..FULL
    },
    Variant {
        name: "differential window token-λ",
        mask: WINDOW,
        token_lambda: true,
        ..FULL
    },
    Variant {
        name: "differential causal shared-key",
        shared_key: true,
        norm: false,
        ..FULL
    },
    Variant {
        name: "standard causal norm",
        mask: Mask::Causal,
        norm: true,
        ..PLAIN
    },
];

const WINDOW: Mask = Mask::Window {
    left: Some(100),
    right: Some(10),
};

/// What every device has for a cube, in bytes.
const PORTABLE_SHARED_MEMORY: usize = 32 << 10;

/// Every kernel of the library as launched on `arch`: once for each combination of settings, types and problem that
/// makes its code differ.
///
/// # Errors
/// If the library refuses a call, with its words.
pub fn items(arch: Arch) -> Result<Vec<Item>> {
    let recorder = Recorder::new(arch)?;
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for case in cases(arch) {
        let launches = case.launches(&recorder);
        for (kernel, settings) in launches.with_context(|| format!("{case} on {arch}"))? {
            if seen.insert(kernel.id().stable_hash()) {
                items.push(Item {
                    kernel,
                    settings,
                    arch,
                    overlaps: case.hopper.is_some_and(|hopper| hopper.overlap),
                    shared_memory: match case.hopper {
                        Some(_) => arch.shared_memory(),
                        None => PORTABLE_SHARED_MEMORY,
                    },
                });
            }
        }
    }
    Ok(items)
}

/// All of them on the oldest architecture and on Hopper; of the portable kernels, whose source is the same everywhere, the
/// greatest of published models on the others.
fn cases(arch: Arch) -> Vec<Case> {
    match arch {
        Arch::Sm80 => portable_cases(),
        Arch::Sm90a => [portable_cases(), hopper_cases()].concat(),
        _ => published_cases(),
    }
}

fn published_cases() -> Vec<Case> {
    let mut cases = portable_cases();
    cases.retain(|case| {
        let dims = [case.head_dim, case.value_dim];
        PUBLISHED.contains(&dims) && case.variant.name == FULL.name && case.offset == 0
    });
    cases
}

pub(crate) fn portable_cases() -> Vec<Case> {
    let case = |[head_dim, value_dim]: [usize; 2], dtype, variant, offset| Case {
        head_dim,
        value_dim,
        dtype,
        variant,
        offset,
        hopper: None,
    };
    let mut cases = Vec::new();
    for (dims, dtype) in DIMS
        .iter()
        .flat_map(|dims| DTYPES.map(|dtype| (*dims, dtype)))
    {
        cases.extend([FULL, PLAIN].map(|variant| case(dims, dtype, variant, 0)));
    }
    // The code for f16 and bf16 differs in its loads and stores alone.
    for (variant, dtype) in OTHERS
        .iter()
        .flat_map(|variant| [DType::F32, DType::BF16].map(|dtype| (*variant, dtype)))
    {
        cases.extend(PUBLISHED.map(|dims| case(dims, dtype, variant, 0)));
    }
    cases.extend([1, 2, 4].map(|offset| case([64, 128], DType::F16, FULL, offset)));
    cases
}

/// Every row of the table for compute capability 9.0, in both types, with all that its kernel can be asked for; then what
/// else changes the code.
fn hopper_cases() -> Vec<Case> {
    let rows = hopper_shipped().flat_map(|row| [DType::BF16, DType::F16].map(|dtype| (row, dtype)));
    let mut cases: Vec<Case> = rows.map(|(row, dtype)| hopper_case(row, dtype)).collect();
    cases.extend(hopper_variants());
    cases.extend(hopper_baselines());
    cases
}

fn hopper_case(row: HopperShipped, dtype: DType) -> Case {
    let (name, mask) = match (row.maps, row.mask) {
        (2, MaskKind::Full) => ("differential norm", Mask::None),
        (2, MaskKind::Causal) => ("differential causal norm", Mask::Causal),
        (2, MaskKind::Window) => ("differential window norm", WINDOW),
        (_, MaskKind::Full) => ("standard norm", Mask::None),
        (_, MaskKind::Causal) => ("standard causal norm", Mask::Causal),
        (_, MaskKind::Window) => ("standard window norm", WINDOW),
    };
    Case {
        head_dim: row.head_dim,
        value_dim: row.value_dim,
        dtype,
        variant: Variant {
            name,
            maps: row.maps,
            mask,
            ..FULL
        },
        offset: 0,
        hopper: Some(row.settings),
    }
}

/// One row for each number of maps, with less asked for, and with keys shared.
fn hopper_variants() -> impl Iterator<Item = Case> {
    let variants = [
        ("differential shared-key", 2, true),
        ("differential", 2, false),
        ("standard", 1, false),
    ];
    variants.into_iter().filter_map(|(name, maps, shared_key)| {
        let variant = Variant {
            name,
            maps,
            shared_key,
            ..PLAIN
        };
        let row = hopper_row(maps, [128, 128], MaskKind::Full)?;
        Some(Case {
            variant,
            ..hopper_case(row, DType::BF16)
        })
    })
}

/// Rows without the overlap of softmax and products: what it is measured against.
fn hopper_baselines() -> impl Iterator<Item = Case> {
    let rows = [
        (2, [128, 256]),
        (2, [64, 128]),
        (1, [128, 256]),
        (1, [64, 128]),
    ];
    rows.into_iter().filter_map(|(maps, dims)| {
        let row = hopper_row(maps, dims, MaskKind::Causal)?;
        let settings = HopperSettings {
            overlap: false,
            ..row.settings
        };
        Some(hopper_case(HopperShipped { settings, ..row }, DType::BF16))
    })
}

fn hopper_row(maps: usize, dims: [usize; 2], mask: MaskKind) -> Option<HopperShipped> {
    hopper_shipped()
        .find(|row| (row.maps, [row.head_dim, row.value_dim], row.mask) == (maps, dims, mask))
}
