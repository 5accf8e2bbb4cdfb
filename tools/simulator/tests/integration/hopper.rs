//! The kernels for compute capability 9.0, as the library launches it, in the simulator against the reference.

use checks::cases::Case;
use checks::changed;
use checks::device::{
    Layout, checks, forward_checks, forward_family, inputs, options, run, run_forward,
};
use checks::tolerance::assert_all;
use cuda_device::Arch;
use diff_flash_attn::tuning::{Family, HopperSettings, MaskKind, Pass, Settings, Shipped, shipped};
use diff_flash_attn::{
    DType, Error, Inputs, Mask, Norm, Options, Problem, Tensor, Tuning, forward, forward_into,
    plan_backward,
};
use simulator::Simulator;

use crate::device;

fn hopper() -> Option<Simulator> {
    device::device(Arch::Sm90a)
}

/// Asks for the kernel by name: a problem that it does not take is an error.
const HOPPER: Tuning = Tuning::of(Family::Hopper);

const NORM: Norm = Norm {
    eps: 1e-5,
    lambda_init: 0.4,
};

/// One to four tiles; tails; a single query, a single key; more queries than keys, so that masks leave rows with none.
const LENGTHS: [[usize; 2]; 9] = [
    [70, 200],
    [1, 130],
    [190, 90],
    [64, 128],
    [129, 1],
    [65, 257],
    [1, 1],
    [100, 100],
    [33, 320],
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
        left: Some(75),
        right: None,
    },
];

const LAYOUTS: [Layout; 3] = [Layout::Interleaved, Layout::HalfSplit, Layout::HeadsFirst];

/// The `i`-th case of some head dimensions: everything varies, each at its own pace. Two cases share a compiled kernel.
fn case(i: usize, [head_dim, value_dim]: [usize; 2], maps: usize) -> (Case, Layout) {
    let compiled = i / 2;
    let [query_len, key_len] = LENGTHS[i % 9];
    let heads = 1 + (i + compiled) % 2 * 2;
    let batch = 1 + i / 3 % 2;
    let problem = Problem::new(
        maps,
        [batch, query_len, key_len],
        [heads, if i.is_multiple_of(3) { heads } else { 1 }],
        [head_dim, value_dim],
    )
    .with_shared_key(maps == 2 && compiled % 4 == 1)
    .with_mask(MASKS[compiled % 5])
    .with_scale([1.0, 1.7][i % 2] / (head_dim as f32).sqrt())
    .with_dtype([DType::BF16, DType::F16][(compiled + compiled / 2) % 2])
    .with_norm((compiled % 3 != 2).then_some(NORM));
    let lambda = [vec![batch, query_len, heads], vec![heads], vec![1]];
    let gamma = problem.norm.is_some() && compiled.is_multiple_of(2);
    let layout = LAYOUTS[(compiled + compiled / 3) % 3];
    let case = Case::random(problem, &lambda[i % 3], gamma, i as u64);
    (case, layout)
}

fn cover(dims: [usize; 2], maps: usize, range: core::ops::Range<usize>) {
    let Some(device) = hopper() else { return };
    for i in range {
        let (case, layout) = case(i, dims, maps);
        let Problem {
            query_len,
            key_len,
            mask,
            dtype,
            ..
        } = case.problem;
        let name =
            format!("{i}: {dims:?} {dtype} {query_len}×{key_len} {mask:?} {maps} maps {layout:?}");
        let start = std::time::Instant::now();
        let ours = run_forward(device.client(), &case, layout, HOPPER);
        let name = format!("{name} ({:.1?})", start.elapsed());
        assert_all(&name, &forward_checks(&case, &ours));
    }
}

#[test]
fn d128_dv256() {
    cover([128, 256], 2, 0..12);
}

#[test]
fn d64_dv128() {
    cover([64, 128], 2, 12..24);
}

#[test]
fn d128_dv128() {
    cover([128, 128], 2, 6..12);
}

#[test]
fn d64_dv64() {
    cover([64, 64], 2, 16..22);
}

#[test]
fn d96_dv192() {
    cover([96, 192], 2, 24..30);
}

#[test]
fn standard_attention() {
    for (i, dims) in [[128, 256], [64, 128], [128, 128], [64, 64], [96, 192]]
        .into_iter()
        .enumerate()
    {
        cover(dims, 1, 4 * i..4 * i + 4);
    }
}

/// As [`cover`], forward and backward. Values' halves that are no whole panels must not lie apart.
fn cover_gradients(dims: [usize; 2], maps: usize, cases: &[usize]) {
    let Some(device) = hopper() else { return };
    for i in cases {
        let (case, layout) = case(*i, dims, maps);
        let layout = match layout {
            Layout::HalfSplit if !dims[1].is_multiple_of(128) => Layout::HeadsFirst,
            layout => layout,
        };
        let problem = &case.problem;
        let (lengths, mask) = ([problem.query_len, problem.key_len], problem.mask);
        let start = std::time::Instant::now();
        let ours = run(device.client(), &case, layout, HOPPER);
        let of = format!("{dims:?} {} {lengths:?} {mask:?}", problem.dtype);
        let name = format!("{i}: {of} {maps} maps {layout:?} ({:.1?})", start.elapsed());
        assert_all(&name, &checks(&case, &ours));
    }
}

#[test]
fn gradients_d64_dv128() {
    cover_gradients([64, 128], 2, &[0, 1, 2, 5, 6, 11, 12]);
}

#[test]
fn gradients_d128_dv256() {
    cover_gradients([128, 256], 2, &[0, 2, 5, 8]);
}

#[test]
fn gradients_d128_dv128() {
    cover_gradients([128, 128], 2, &[0, 2, 4]);
}

#[test]
fn gradients_d64_dv64() {
    cover_gradients([64, 64], 2, &[0, 2, 7, 11]);
}

#[test]
fn gradients_d96_dv192() {
    cover_gradients([96, 192], 2, &[0, 2, 8]);
}

#[test]
fn gradients_of_standard_attention() {
    for dims in [[128, 256], [64, 128], [128, 128], [64, 64], [96, 192]] {
        cover_gradients(dims, 1, &[0, 5]);
    }
    cover_gradients([64, 64], 1, &[11]);
}

/// λ is an exponent's part in these kernels, and its sign a bit: of zeros, of numbers too small for a logarithm, and of great
/// ones.
#[test]
fn gradients_of_any_lambda() {
    let Some(device) = hopper() else { return };
    let problem = Problem::differential([1, 70, 90], [1, 1], [64, 64]).with_dtype(DType::BF16);
    let mut case = Case::random(problem, &[1, 70, 1], false, 3);
    let special = [0.0, -0.0, 1e-40, -1e-40, 1e-30, -1e-30, 3.0, -3.0];
    for (lambda, special) in case.lambda.iter_mut().zip(special.into_iter().cycle()) {
        *lambda = special;
    }
    let ours = run(device.client(), &case, Layout::Interleaved, HOPPER);
    assert_all("lambda", &checks(&case, &ours));
}

/// The families of the steps that make the gradients, after the rows' statistics.
fn gradient_families(device: &Simulator, case: &Case, layout: Layout) -> Vec<Option<Family>> {
    let client = device.client();
    let (inputs, options) = (
        inputs(client, case, layout),
        options(case, Tuning::default()),
    );
    let saved = forward(client, &inputs, &options).unwrap().saved.unwrap();
    let shape = case.output_shape();
    let gradient = Tensor::from_f32(client, case.problem.dtype, &shape, &case.grad_output).unwrap();
    let plan = plan_backward(client, &inputs, &saved, &gradient, &options).unwrap();
    let steps = plan.describe().into_iter();
    steps
        .map(|step| step.family)
        .filter(Option::is_some)
        .collect()
}

#[test]
fn gradients_chosen_where_they_can_be() {
    let Some(device) = hopper() else { return };
    let (case, _) = case(1, [64, 128], 2);
    for layout in LAYOUTS {
        let families = gradient_families(&device, &case, layout);
        assert_eq!(families, [Some(Family::Hopper); 3], "{layout:?}");
    }
    let families = gradient_families(&device, &case, Layout::Unaligned);
    assert_eq!(families, [Some(Family::Portable); 2]);
}

/// Why the gradients' kernels cannot be made with settings.
#[test]
fn settings_that_no_gradient_has() {
    let Some(device) = hopper() else { return };
    let (case, inputs, options) = taken(&device, Layout::Interleaved);
    let client = device.client();
    let saved = forward(client, &inputs, &options).unwrap().saved.unwrap();
    let shape = case.output_shape();
    let gradient = Tensor::from_f32(client, case.problem.dtype, &shape, &case.grad_output).unwrap();
    let good = HopperSettings::new([32, 2, 2, 2, 1, 240], true, false);
    let alone =
        "gradients are made by 2 computing warpgroups in cubes of their own, overlap and no turns";
    let bad = [
        (
            changed(good, |it| it.keys = 40),
            "keys is 40, expected a multiple of 16 from 16 to 128",
        ),
        (
            changed(good, |it| it.value_stages = 3),
            "stages are 2 and 3, expected the same for both, 2 to 8",
        ),
        (changed(good, |it| it.cluster = 2), alone),
        (changed(good, |it| it.consumers = 3), alone),
        (changed(good, |it| it.overlap = false), alone),
        (changed(good, |it| it.turns = true), alone),
        (
            changed(good, |it| it.registers = 248),
            "registers is 248, expected a multiple of 8 in 168..=240",
        ),
    ];
    for pass in [Pass::QueryGradient, Pass::KeyValueGradient] {
        for (settings, expected) in bad {
            let tuning = HOPPER.with(pass, settings);
            let options = options.with_tuning(tuning);
            let refused = plan_backward(client, &inputs, &saved, &gradient, &options);
            let Error::Settings { problem, .. } = refused.unwrap_err() else {
                panic!("{expected}");
            };
            assert_eq!(problem, expected);
        }
    }
}

/// Causal, groups of queries, a norm with its weight, λ for every row.
#[test]
fn backward_of_what_was_saved() {
    let Some(device) = hopper() else { return };
    let problem = Problem::differential([1, 70, 90], [2, 1], [64, 128])
        .with_mask(Mask::Causal)
        .with_scale(0.125)
        .with_dtype(DType::BF16)
        .with_norm(Some(NORM));
    let case = Case::random(problem, &[1, 70, 2], true, 5);
    let ours = run(device.client(), &case, Layout::HalfSplit, HOPPER);
    assert_all("backward", &checks(&case, &ours));
}

/// Rows that are no multiple of 16 bytes apart are written two columns at a time; other orders of axes as they are.
#[test]
fn outputs_of_any_strides() {
    let Some(device) = hopper() else { return };
    let client = device.client();
    let (case, inputs, options) = taken(&device, Layout::Interleaved);
    let Problem {
        batch,
        query_len,
        heads,
        value_dim,
        ..
    } = case.problem;
    let options = options.with_save_for_backward(false).with_tuning(HOPPER);
    let expected = forward(client, &inputs, &options).unwrap().output;
    let expected = expected.to_f32(client).unwrap();
    let shape = [batch, query_len, heads, value_dim];
    let row = value_dim + 2;
    let strides = [query_len * heads * row, heads * row, row, 1];
    let buffer = Tensor::empty(client, DType::BF16, &[2 + batch * strides[0]]);
    let handle = buffer.handle().clone();
    let padded = Tensor::strided(handle, DType::BF16, 2, &shape, &strides);
    let heads_first = Tensor::empty(client, DType::BF16, &[batch, heads, query_len, value_dim]);
    let heads_first = heads_first.permute(&[0, 2, 1, 3]).unwrap();
    for output in [padded, heads_first] {
        forward_into(client, &inputs, &options, &output, None).unwrap();
        assert_eq!(output.to_f32(client).unwrap(), expected);
    }
}

/// Settings that the kernel takes for any dimensions of the table.
const SETTINGS: HopperSettings = HopperSettings::new([64, 2, 2, 2, 1, 240], true, false);

/// Rows of the family's table for the forward pass.
fn rows() -> impl Iterator<Item = (Shipped, HopperSettings)> {
    shipped().filter_map(|row| match row.settings {
        Settings::Hopper(settings) if row.pass == Pass::Forward => Some((row, settings)),
        _ => None,
    })
}

/// Asks for settings, and thereby for the kernel.
fn by_hand(settings: HopperSettings) -> Tuning {
    Tuning::default().with(Pass::Forward, settings)
}

#[test]
fn settings_by_hand() {
    let Some(device) = hopper() else { return };
    let settings = [
        (
            2,
            changed(SETTINGS, |it| {
                it.keys = 16;
                it.value_stages = 3;
                it.registers = 168;
            }),
        ),
        (
            2,
            changed(SETTINGS, |it| {
                it.keys = 48;
                it.key_stages = 4;
                it.cluster = 2;
                it.registers = 232;
                it.turns = true;
            }),
        ),
        (
            2,
            changed(SETTINGS, |it| {
                it.keys = 176;
                it.turns = true;
            }),
        ),
        (
            1,
            changed(SETTINGS, |it| {
                it.consumers = 3;
                it.cluster = 2;
                it.registers = 160;
                it.turns = true;
            }),
        ),
        (
            1,
            changed(SETTINGS, |it| {
                it.keys = 80;
                it.key_stages = 3;
                it.value_stages = 5;
            }),
        ),
    ];
    for (maps, settings) in settings {
        compare_by_hand(&device, maps, settings);
    }
}

/// Products and softmax one after the other, in every arrangement of warpgroups and cubes.
#[test]
fn settings_without_overlap() {
    let Some(device) = hopper() else { return };
    let plain = changed(SETTINGS, |it| {
        it.keys = 48;
        it.overlap = false;
    });
    for (cluster, turns) in [(1, false), (2, true)] {
        let settings = changed(plain, |it| {
            it.cluster = cluster;
            it.turns = turns;
        });
        let three = changed(settings, |it| {
            it.consumers = 3;
            it.registers = 152;
        });
        for (maps, settings) in [(2, settings), (1, settings), (1, three)] {
            compare_by_hand(&device, maps, settings);
        }
    }
}

fn compare_by_hand(device: &Simulator, maps: usize, settings: HopperSettings) {
    let (mut case, layout) = case(0, [64, 128], maps);
    case.problem.key_len = 200;
    let ours = run_forward(device.client(), &case, layout, by_hand(settings));
    assert_all(&settings.to_string(), &forward_checks(&case, &ours));
}

/// Every row of the table for a causal mask, without the overlap that it ships with.
#[test]
fn dimensions_without_overlap() {
    let Some(device) = hopper() else { return };
    let rows = rows().filter(|(row, _)| row.mask == Some(MaskKind::Causal));
    for (i, (row, settings)) in rows.enumerate() {
        assert!(settings.overlap, "{settings}");
        let settings = changed(settings, |it| it.overlap = false);
        let dims = [row.head_dim, row.value_dim];
        let (case, _) = case(i % 4, dims, row.maps);
        let problem = case.problem.with_mask(Mask::Causal);
        let case = Case::random(problem, &case.lambda_shape, case.gamma.is_some(), i as u64);
        let layout = Layout::Interleaved;
        let ours = run_forward(device.client(), &case, layout, by_hand(settings));
        let name = format!("{dims:?}, {} maps, {settings}", row.maps);
        assert_all(&name, &forward_checks(&case, &ours));
    }
}

#[test]
fn rows_without_a_key_stay_zero_in_a_norm_without_eps() {
    let Some(device) = hopper() else { return };
    let (case, layout) = case(0, [64, 128], 2);
    let problem = case
        .problem
        .with_lengths([90, 30])
        .with_mask(Mask::Causal)
        .with_norm(Some(Norm { eps: 0.0, ..NORM }));
    let case = Case::random(problem, &[1], true, 5);
    let ours = run_forward(device.client(), &case, layout, HOPPER);
    assert_all("eps = 0", &forward_checks(&case, &ours));
}

/// A case that the kernel takes, as inputs and options.
fn taken(device: &Simulator, layout: Layout) -> (Case, Inputs, Options) {
    let (case, _) = case(0, [64, 128], 2);
    let inputs = inputs(device.client(), &case, layout);
    let options = options(&case, Tuning::default());
    (case, inputs, options)
}

/// Why the kernel does not take a problem; by itself the library then takes another family's.
fn refusal(device: &Simulator, inputs: &Inputs, options: &Options) -> String {
    let chosen = forward_family(device.client(), inputs, options).unwrap();
    assert_ne!(chosen, Family::Hopper);
    let forced = (*options).with_tuning(HOPPER);
    refusal_of(device, inputs, &forced)
}

/// Why the kernel, asked for by name, does not take a problem.
fn refusal_of(device: &Simulator, inputs: &Inputs, forced: &Options) -> String {
    let refused = forward_family(device.client(), inputs, forced).unwrap_err();
    assert_eq!(
        forward(device.client(), inputs, forced).unwrap_err(),
        refused
    );
    let Error::Settings { settings, problem } = refused else {
        panic!("{refused}");
    };
    assert_eq!(settings, "hopper");
    problem
}

#[test]
fn chosen_where_it_can_be() {
    let Some(device) = hopper() else { return };
    for layout in LAYOUTS {
        let (_, inputs, options) = taken(&device, layout);
        let chosen = forward_family(device.client(), &inputs, &options).unwrap();
        assert_eq!(chosen, Family::Hopper, "{layout:?}");
        for family in [Family::Hopper, Family::Portable] {
            let tuning = Tuning::of(family);
            let options = options.with_tuning(tuning);
            let asked = forward_family(device.client(), &inputs, &options).unwrap();
            assert_eq!(asked, family);
        }
    }
}

#[test]
fn portable_where_tma_cannot_reach() {
    let Some(device) = hopper() else { return };
    let (case, inputs, options) = taken(&device, Layout::Unaligned);
    let problem = refusal(&device, &inputs, &options);
    assert!(
        problem.contains("query: begins at byte 6, no multiple of 16"),
        "{problem}"
    );
    let ours = run_forward(device.client(), &case, Layout::Unaligned, Tuning::default());
    assert_all("portable", &forward_checks(&case, &ours));
}

#[test]
fn refusals_say_why() {
    let Some(device) = hopper() else { return };
    let (_, inputs, options) = taken(&device, Layout::Interleaved);
    let scaled = options.with_scale(Some(-0.125));
    let problem = refusal(&device, &inputs, &scaled);
    assert!(problem.starts_with("scale -0.125 is outside"), "{problem}");

    let row = |dim: usize| Tensor::empty(device.client(), DType::BF16, &[1, 9, 1, dim]);
    let standard = |d, dv| Inputs::standard(row(d), row(d), row(dv));
    let plain = Options::default();
    let problem = refusal(&device, &standard(32, 64), &plain);
    assert_eq!(problem, "no settings for head dimensions 32 and 64");

    let single = |dim: usize| Tensor::empty(device.client(), DType::F32, &[1, 9, 1, dim]);
    let problem = refusal(
        &device,
        &Inputs::standard(single(64), single(64), single(64)),
        &plain,
    );
    assert_eq!(problem, "tensor cores have no f32");

    let gap = row(72);
    let key = Tensor::strided(
        gap.handle().clone(),
        DType::BF16,
        0,
        &[1, 9, 1, 64],
        &[648, 68, 64, 1],
    );
    let inputs = changed(standard(64, 64), |it| it.key = key);
    let problem = refusal(&device, &inputs, &plain);
    assert_eq!(
        problem,
        "key: a stride is 136 bytes, TMA takes multiples of 16 from 16 to 2⁴⁰ − 16"
    );

    // Settings given by hand take values of other dimensions than the table's.
    let half = row(32);
    let value = Tensor::strided(
        half.handle().clone(),
        DType::BF16,
        0,
        &[1, 9, 1, 2, 16],
        &[288, 16, 16, 144, 1],
    );
    let inputs = changed(standard(64, 64), |it| it.value = value);
    let (_, settings) = rows()
        .find(|(row, _)| row.maps == 1 && row.head_dim == 64)
        .expect("a row for standard attention");
    let by_hand = plain.with_tuning(by_hand(settings));
    let problem = refusal_of(&device, &inputs, &by_hand);
    assert_eq!(
        problem,
        "halves of a value that lie apart have 16 columns, expected a multiple of 32"
    );
}

#[test]
fn settings_that_cannot_be() {
    let Some(device) = hopper() else { return };
    let (_, inputs, options) = taken(&device, Layout::Interleaved);
    let standard = Tensor::empty(device.client(), DType::BF16, &[1, 9, 1, 64]);
    let standard = Inputs::standard(standard.clone(), standard.clone(), standard);
    let three = changed(SETTINGS, |it| it.consumers = 3);
    let change = |registers| changed(SETTINGS, |it| it.registers = registers);
    let bad = [
        (
            &inputs,
            changed(SETTINGS, |it| it.keys = 40),
            "keys is 40, expected a multiple of 16 from 16 to 256",
        ),
        (
            &inputs,
            changed(SETTINGS, |it| it.key_stages = 1),
            "key_stages is 1, expected 2 to 8",
        ),
        (
            &inputs,
            changed(SETTINGS, |it| it.value_stages = 9),
            "value_stages is 9, expected 2 to 8",
        ),
        (
            &inputs,
            three,
            "consumers is 3, expected 2, or 3 for standard attention",
        ),
        (
            &inputs,
            changed(SETTINGS, |it| it.cluster = 4),
            "cluster is 4, expected 1 or 2 cubes",
        ),
        (
            &inputs,
            change(236),
            "registers is 236, expected a multiple of 8 in 24..=256",
        ),
        (
            &inputs,
            change(16),
            "registers is 16, expected a multiple of 8 in 24..=256",
        ),
        (
            &inputs,
            change(264),
            "registers is 264, expected a multiple of 8 in 24..=256",
        ),
        (
            &inputs,
            change(160),
            "registers is 160, expected at least the 168 that a thread begins with",
        ),
        (
            &inputs,
            change(248),
            "registers is 248 in 2 warpgroups, which leaves 8 for the one that loads, expected 24",
        ),
        (
            &standard,
            three,
            "registers is 240 in 3 warpgroups, which leaves 0 for the one that loads, expected 24",
        ),
        (
            &standard,
            changed(three, |it| it.registers = 120),
            "registers is 120, expected at least the 128 that a thread begins with",
        ),
        (
            &inputs,
            changed(SETTINGS, |it| it.keys = 240),
            "registers is 240, expected about 280",
        ),
        (
            &inputs,
            changed(SETTINGS, |it| {
                it.keys = 240;
                it.registers = 216;
                it.overlap = false;
            }),
            "registers is 216, expected about 220",
        ),
    ];
    for (inputs, settings, expected) in bad {
        let tuning = by_hand(settings);
        let refused = forward(device.client(), inputs, &options.with_tuning(tuning));
        let Error::Settings {
            settings: name,
            problem,
        } = refused.unwrap_err()
        else {
            panic!("{expected}");
        };
        assert_eq!((name, problem.as_str()), (settings.to_string(), expected));
    }
    let tuning = by_hand(changed(SETTINGS, |it| {
        it.key_stages = 8;
        it.value_stages = 8;
    }));
    let refused = forward(device.client(), &inputs, &options.with_tuning(tuning)).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::DeviceLimit {
                resource: "bytes of shared memory",
                ..
            }
        ),
        "{refused}"
    );
}
