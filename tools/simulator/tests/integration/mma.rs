//! The kernels for `mma.sync`, as the library launches them, in the simulator against the reference, forward and backward.

use checks::cases::Case;
use checks::device::{Layout, checks, inputs, options, run};
use checks::tolerance::assert_all;
use cuda_device::Arch;
use diff_flash_attn::tuning::{Family, MmaSettings, Pass};
use diff_flash_attn::{
    DType, Mask, Norm, Problem, Tensor, Tuning, forward, plan_backward, plan_forward,
};

use crate::device;

/// Asks for the kernels by name: a problem that they do not take is an error.
const MMA: Tuning = Tuning::of(Family::Mma);

const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.4,
};

/// One to some tiles; tails; a single query, a single key; more queries than keys, so that masks leave rows with none.
const LENGTHS: [[usize; 2]; 7] = [
    [70, 100],
    [1, 130],
    [90, 40],
    [64, 64],
    [65, 1],
    [33, 129],
    [100, 70],
];

const MASKS: [Mask; 5] = [
    Mask::Causal,
    Mask::None,
    Mask::Window {
        left: Some(40),
        right: Some(9),
    },
    Mask::Window {
        left: None,
        right: Some(17),
    },
    Mask::Window {
        left: Some(35),
        right: None,
    },
];

const LAYOUTS: [Layout; 3] = [Layout::Interleaved, Layout::HalfSplit, Layout::HeadsFirst];

/// The `i`-th case of some head dimensions: everything varies, each at its own pace.
fn case(i: usize, dims: [usize; 2], maps: usize) -> (Case, Layout) {
    let [query_len, key_len] = LENGTHS[i % 7];
    let heads = 1 + i % 2;
    let problem = Problem::new(
        maps,
        [1 + i % 3 / 2, query_len, key_len],
        [heads, if i.is_multiple_of(3) { heads } else { 1 }],
        dims,
    )
    .with_shared_key(maps == 2 && i % 4 == 1)
    .with_mask(MASKS[i % 5])
    .with_scale([1.0, 1.7][i % 2] / (dims[0] as f32).sqrt())
    .with_dtype([DType::BF16, DType::F16][i % 2])
    .with_norm((i % 3 != 2).then_some(NORM));
    let lambda = [vec![problem.batch, query_len, heads], vec![heads], vec![1]];
    let gamma = problem.norm.is_some() && i.is_multiple_of(2);
    let case = Case::random(problem, &lambda[i % 3], gamma, i as u64);
    (case, LAYOUTS[i % 3])
}

fn verify(arch: Arch, (case, layout): (Case, Layout), tuning: Tuning) {
    let Some(device) = device::device(arch) else {
        return;
    };
    let start = std::time::Instant::now();
    let ours = run(device.client(), &case, layout, tuning);
    let name = format!(
        "{arch} {layout:?} {:?} ({:.1?})",
        case.problem,
        start.elapsed()
    );
    assert_all(&name, &checks(&case, &ours));
}

fn cover(dims: [usize; 2], maps: usize, range: core::ops::Range<usize>) {
    for i in range {
        verify(Arch::Sm80, case(i, dims, maps), MMA);
    }
}

#[test]
fn d64_dv128() {
    cover([64, 128], 2, 0..6);
}

#[test]
fn d128_dv256() {
    cover([128, 256], 2, 1..5);
}

#[test]
fn d128_dv128() {
    cover([128, 128], 2, 2..5);
}

#[test]
fn d64_dv64() {
    cover([64, 64], 2, 3..7);
}

#[test]
fn d96_dv192() {
    cover([96, 192], 2, 4..7);
}

#[test]
fn d192_dv128() {
    cover([192, 128], 2, 5..8);
}

#[test]
fn d32_dv64() {
    cover([32, 64], 2, 6..10);
}

#[test]
fn d256_dv256() {
    cover([256, 256], 2, 7..9);
}

/// Multiples of 16 that no published model has.
#[test]
fn other_dimensions() {
    for (i, dims) in [
        [16, 32],
        [48, 96],
        [80, 160],
        [112, 64],
        [160, 96],
        [224, 224],
    ]
    .into_iter()
    .enumerate()
    {
        let (case, _) = case(i, dims, 2);
        verify(Arch::Sm80, (case, Layout::Interleaved), MMA);
    }
}

#[test]
fn standard_attention() {
    for (i, dims) in [
        [64, 128],
        [128, 128],
        [64, 64],
        [96, 192],
        [128, 256],
        [192, 128],
    ]
    .into_iter()
    .enumerate()
    {
        verify(Arch::Sm80, case(i, dims, 1), MMA);
    }
}

/// Texts of CLIP, images of ViT with and without a token for the class: no length is a multiple of a tile.
#[test]
fn short_sequences() {
    for (len, dims, dtype) in [
        (77, [64, 128], DType::F16),
        (197, [64, 64], DType::BF16),
        (257, [64, 128], DType::BF16),
    ] {
        let mask = if len == 77 { Mask::Causal } else { Mask::None };
        let problem = Problem::differential([1, len, len], [1, 1], dims)
            .with_dtype(dtype)
            .with_mask(mask)
            .with_norm(Some(NORM));
        let case = Case::random(problem, &[1], true, len as u64);
        verify(Arch::Sm80, (case, Layout::Interleaved), MMA);
    }
}

/// The same PTX but for its target.
#[test]
fn other_architectures() {
    for arch in [
        Arch::Sm86,
        Arch::Sm89,
        Arch::Sm90a,
        Arch::Sm100a,
        Arch::Sm120a,
    ] {
        verify(arch, case(0, [64, 128], 2), MMA);
        verify(arch, case(1, [128, 256], 2), MMA);
    }
}

#[test]
fn settings_by_hand() {
    let by_hand = |settings| {
        let passes = [Pass::Forward, Pass::QueryGradient, Pass::KeyValueGradient];
        passes
            .into_iter()
            .fold(MMA, |tuning, pass| tuning.with(pass, settings))
    };
    for (i, (sizes, split)) in [
        ([16, 2, 3], false),
        ([32, 8, 2], true),
        ([48, 4, 2], true),
        ([64, 2, 1], true),
        ([32, 8, 1], false),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut case, layout) = case(i, [32, 64], 2);
        case.problem.key_len = 150;
        let case = Case::random(case.problem, &case.lambda_shape, case.gamma.is_some(), 3);
        verify(
            Arch::Sm80,
            (case, layout),
            by_hand(MmaSettings::new(sizes, split)),
        );
    }
}

/// What the kernels do not take, the portable ones do, and the plan says why.
#[test]
fn refusals() {
    let Some(device) = device::device(Arch::Sm89) else {
        return;
    };
    let client = device.client();
    let of = |dims, dtype| {
        let problem = Problem::differential([1, 20, 20], [2, 2], dims).with_dtype(dtype);
        Case::random(problem, &[1], false, 1)
    };
    for (case, layout, words) in [
        (of([64, 128], DType::BF16), Layout::Unaligned, "16 bytes"),
        (
            of([40, 64], DType::BF16),
            Layout::Interleaved,
            "multiples of 16",
        ),
        (of([64, 128], DType::F32), Layout::Interleaved, "no f32"),
        (
            of([16, 16], DType::F16),
            Layout::HalfSplit,
            "multiple of 16",
        ),
    ] {
        let (inputs, options) = (
            inputs(client, &case, layout),
            options(&case, Tuning::default()),
        );
        let plan = plan_forward(client, &inputs, &options).unwrap();
        let reasons = plan.to_string();
        assert!(
            reasons.contains("mma") && reasons.contains(words),
            "{reasons}"
        );
        let family = plan.describe().into_iter().find_map(|step| step.family);
        assert_eq!(family, Some(Family::Portable));
    }
}

/// One map of the widest heads would leave a warp more sums than it has registers.
#[test]
fn widest_gradients_of_standard_attention_are_portable() {
    let Some(device) = device::device(Arch::Sm80) else {
        return;
    };
    let client = device.client();
    let problem = Problem::new(1, [1, 20, 20], [1, 1], [256, 256]).with_dtype(DType::BF16);
    let case = Case::random(problem, &[1], false, 1);
    let inputs = inputs(client, &case, Layout::Interleaved);
    let options = options(&case, Tuning::default());
    let saved = forward(client, &inputs, &options).unwrap().saved.unwrap();
    let gradient = Tensor::empty(client, DType::BF16, &case.output_shape());
    let plan = plan_backward(client, &inputs, &saved, &gradient, &options).unwrap();
    let plan = plan.to_string();
    assert!(plan.contains("attention_backward_query "), "{plan}");
    assert!(plan.contains("no settings for query-gradient"), "{plan}");
}
