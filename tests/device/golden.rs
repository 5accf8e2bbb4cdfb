//! Golden cases from other implementations: the reference against each of their tensors, and the reading of files.

use std::collections::HashMap;
use std::path::Path;

use diff_flash_attn::{DType, Mask, Norm, device};
use golden::{Case, Device, Lambda, Layout, Reference, Runner};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

const OFFICIAL: [&str; 9] = [
    "y",
    "dq",
    "dk",
    "dv",
    "dgamma",
    "dlambda_q1",
    "dlambda_k1",
    "dlambda_q2",
    "dlambda_k2",
];
const DIFFLLAMA: [&str; 8] = [
    "y",
    "dq",
    "dk",
    "dv",
    "dlambda_q1",
    "dlambda_k1",
    "dlambda_q2",
    "dlambda_k2",
];
const V2: [&str; 5] = ["y", "dq", "dk", "dv", "dlam_logit"];

const CASES: [(&str, Layout, &[&str]); 5] = [
    ("diffllama", Layout::DiffLlama, &DIFFLLAMA),
    ("official_full", Layout::Official, &OFFICIAL),
    ("official_gqa", Layout::Official, &OFFICIAL),
    ("official_mha", Layout::Official, &OFFICIAL),
    ("v2", Layout::V2, &V2),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name).with_extension("safetensors")).unwrap()
}

/// Every tensor that the case has, and no other, to the given part of its norm.
fn agrees(runner: &mut impl Runner, case: &Case, tensors: &[&str], relative: f64) {
    let rows = golden::check(case, runner).unwrap();
    let found: Vec<_> = rows.iter().map(|row| row.tensor).collect();
    assert_eq!(found, tensors);
    for row in rows {
        println!(
            "{} {}: relative {:.1e}, largest {:.1e}",
            case.name, row.tensor, row.relative, row.max_abs
        );
        assert!(row.relative < relative && row.max_abs < 1e-4, "{row:?}");
    }
}

/// The files are `f32` roundings of `f64` results.
#[test]
fn reference_agrees_with_every_case() {
    let files = golden::find(folder()).unwrap();
    assert_eq!(files.len(), CASES.len());
    for (file, (name, layout, tensors)) in files.iter().zip(CASES) {
        let case = Case::load(file).unwrap();
        assert_eq!((case.name.as_str(), case.layout), (name, layout));
        agrees(&mut Reference, &case, tensors, 2e-6);
    }
}

/// Inputs, λ and every sum are `f32` here, so some tensors (the gradients of λ, which cancel) lose one more digit.
#[test]
fn device_agrees_with_every_case() {
    let mut device = Device::new(device::default_client().unwrap(), DType::F32);
    println!("{}", device.describe());
    for (name, _, tensors) in CASES {
        let case = Case::parse(name, &bytes(name)).unwrap();
        agrees(&mut device, &case, tensors, 1e-5);
    }
}

#[test]
fn sizes_and_settings_come_from_the_file() {
    let v2 = Case::parse("v2", &bytes("v2")).unwrap().problem;
    let sizes = [
        v2.batch,
        v2.query_len,
        v2.key_len,
        v2.heads,
        v2.kv_heads,
        v2.head_dim,
        v2.value_dim,
    ];
    assert_eq!(
        (sizes, v2.maps, v2.shared_key),
        ([1, 19, 31, 4, 2, 32, 32], 2, true)
    );
    assert_eq!(
        (v2.mask, v2.scale, v2.norm),
        (Mask::Causal, 32f32.sqrt().recip(), None)
    );
    let full = Case::parse("full", &bytes("official_full")).unwrap();
    let norm = Norm {
        eps: 1e-5,
        lambda_init: 0.556_058_2,
    };
    assert_eq!(
        (full.problem.mask, full.problem.norm),
        (Mask::None, Some(norm))
    );
    assert_eq!(
        (
            full.problem.heads,
            full.problem.kv_heads,
            full.problem.value_dim
        ),
        (2, 1, 64)
    );
    assert_eq!(full.gamma.as_ref().map(Vec::len), Some(64));
    assert!(matches!(full.lambda, Lambda::Vectors(_)));
}

#[test]
fn file_order_and_library_order_are_inverse() {
    let case = Case::parse("diffllama", &bytes("diffllama")).unwrap();
    for operand in [&case.query, &case.key, &case.value] {
        assert_eq!(operand.axes, [0, 1, 3, 2, 4]);
        let moved = operand.to_library();
        assert_ne!(moved, operand.values);
        assert_eq!(operand.to_file(&moved).unwrap(), operand.values);
        // Token 5, head 1, pair 0, dimension 3: the pair axis is outside in the file, inside in the library.
        assert_eq!(
            moved[((5 * 2 + 1) * 2) * 32 + 3],
            operand.values[(5 * 2 * 2 + 1) * 32 + 3]
        );
        assert!(operand.to_file(&moved[1..]).is_err());
    }
}

/// A file with its metadata changed by `edit`, its tensors by `map`.
fn rewritten(
    name: &str,
    edit: impl Fn(&mut HashMap<String, String>),
    map: impl Fn(&str, Dtype, Vec<usize>, &[u8]) -> Option<(Dtype, Vec<usize>, Vec<u8>)>,
) -> Vec<u8> {
    let bytes = bytes(name);
    let mut metadata = SafeTensors::read_metadata(&bytes)
        .unwrap()
        .1
        .metadata()
        .clone()
        .unwrap();
    edit(&mut metadata);
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let tensors: Vec<_> = tensors
        .iter()
        .filter_map(|(name, t)| Some((name, map(name, t.dtype(), t.shape().to_vec(), t.data())?)))
        .collect();
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (
            name.as_str(),
            TensorView::new(*dtype, shape.clone(), data).unwrap(),
        )
    });
    safetensors::serialize(views, Some(metadata)).unwrap()
}

fn keep(
    _: &str,
    dtype: Dtype,
    shape: Vec<usize>,
    data: &[u8],
) -> Option<(Dtype, Vec<usize>, Vec<u8>)> {
    Some((dtype, shape, data.to_vec()))
}

#[test]
fn layout_is_named_by_the_metadata_or_told_by_shapes_and_gamma() {
    let anonymous = |metadata: &mut HashMap<String, String>| drop(metadata.remove("source"));
    for (name, layout, _) in CASES {
        let case = Case::parse(name, &rewritten(name, anonymous, keep)).unwrap();
        assert_eq!(case.layout, layout, "{name}");
        let elsewhere = |metadata: &mut HashMap<String, String>| {
            metadata.insert("source".into(), "my model".into());
        };
        assert_eq!(
            Case::parse(name, &rewritten(name, elsewhere, keep))
                .unwrap()
                .layout,
            layout
        );
    }
    // With two heads the shapes fit both layouts: the name decides, and the wrong one is found out.
    let named = |metadata: &mut HashMap<String, String>| {
        metadata.insert("layout".into(), "official".into());
    };
    let case = Case::parse("named", &rewritten("diffllama", named, keep)).unwrap();
    assert_eq!(case.layout, Layout::Official);
    let rows = golden::check(&case, &mut Reference).unwrap();
    assert!(rows.iter().all(|row| row.relative > 0.01), "{rows:?}");
}

/// Wider and narrower files: `f64` holds the same values, the halves round them.
#[test]
fn every_floating_point_type_is_read() {
    let as_f32 = |data: &[u8]| -> Vec<f32> {
        data.chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    };
    let single = Case::parse("v2", &bytes("v2")).unwrap();
    let stored = |dtype: Dtype, element: &dyn Fn(f32) -> Vec<u8>| {
        let convert = |_: &str, _, shape, data: &[u8]| {
            Some((
                dtype,
                shape,
                as_f32(data).into_iter().flat_map(element).collect(),
            ))
        };
        Case::parse("v2", &rewritten("v2", |_| (), convert)).unwrap()
    };
    let double = stored(Dtype::F64, &|x| f64::from(x).to_le_bytes().to_vec());
    assert_eq!(double.query, single.query);
    let half = stored(Dtype::F16, &|x| {
        half::f16::from_f32(x).to_le_bytes().to_vec()
    });
    let brain = stored(Dtype::BF16, &|x| {
        half::bf16::from_f32(x).to_le_bytes().to_vec()
    });
    for (case, roundoff) in [(half, 2f64.powi(-11)), (brain, 2f64.powi(-8))] {
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= roundoff * y.abs().max(1e-4);
        assert_ne!(case.query, single.query);
        assert!(
            case.query
                .values
                .iter()
                .zip(&single.query.values)
                .all(close)
        );
    }
    let integers = |_: &str, _, shape, data: &[u8]| Some((Dtype::I32, shape, data.to_vec()));
    refused(
        &rewritten("v2", |_| (), integers),
        "expected F64, F32, F16 or BF16",
    );
}

/// One logit a head gives what the same logit at every token gives, and the sum of its gradients.
#[test]
fn logits_are_broadcast() {
    let heads: [f32; 4] = [-1.0, 0.0, 0.5, 2.0];
    let with_logits = |tokens: usize, shape: &[usize]| {
        let data: Vec<u8> = heads
            .repeat(tokens)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let replace = |name: &str, dtype, old: Vec<usize>, bytes: &[u8]| match name {
            "lam_logit" | "dlam_logit" => Some((dtype, shape.to_vec(), data.clone())),
            _ => Some((dtype, old, bytes.to_vec())),
        };
        Reference
            .run(&Case::parse("v2", &rewritten("v2", |_| (), replace)).unwrap())
            .unwrap()
    };
    let (each, shared) = (with_logits(19, &[1, 19, 4]), with_logits(1, &[4]));
    assert_eq!(each.output, shared.output);
    let (each, shared) = (
        each.gradients.unwrap().lambda,
        shared.gradients.unwrap().lambda,
    );
    for (head, shared) in shared.iter().enumerate() {
        let sum: f64 = each.iter().skip(head).step_by(4).sum();
        approx::assert_relative_eq!(sum, *shared, max_relative = 1e-12);
    }
}

/// A file that holds only the forward pass is compared in that.
#[test]
fn output_alone_is_compared() {
    let forward = |name: &str, dtype, shape, data: &[u8]| {
        (!name.starts_with('d')).then(|| (dtype, shape, data.to_vec()))
    };
    let case = Case::parse("forward", &rewritten("official_gqa", |_| (), forward)).unwrap();
    let computed = Reference.run(&case).unwrap();
    assert_eq!(computed.gradients, None);
    let rows = golden::compare(&case, &computed).unwrap();
    assert_eq!(rows.iter().map(|row| row.tensor).collect::<Vec<_>>(), ["y"]);
    assert!(rows[0].relative < 2e-6);
}

fn refused(bytes: &[u8], reason: &str) {
    let error = format!("{:#}", Case::parse("mine", bytes).unwrap_err());
    assert!(error.contains("mine") && error.contains(reason), "{error}");
}

#[test]
fn broken_files_are_refused_with_a_reason() {
    type Metadata = HashMap<String, String>;
    let without = |name: &'static str| {
        move |tensor: &str, dtype, shape, data: &[u8]| {
            (tensor != name).then(|| (dtype, shape, data.to_vec()))
        }
    };
    let set = |key: &'static str, value: &'static str| {
        move |metadata: &mut Metadata| drop(metadata.insert(key.into(), value.into()))
    };
    let unset = |key: &'static str| move |metadata: &mut Metadata| drop(metadata.remove(key));
    refused(b"no safetensors at all", "not a safetensors file");
    for (tensor, reason) in [
        ("k", "no tensor k"),
        ("lambda_k2", "no tensor lambda_k2"),
        ("dy", "gradients, but no dy"),
    ] {
        refused(&rewritten("official_mha", |_| (), without(tensor)), reason);
    }
    refused(
        &rewritten("official_mha", |_| (), without("gamma")),
        "no tensor gamma",
    );
    refused(
        &rewritten("official_mha", unset("causal"), keep),
        "no metadata causal",
    );
    refused(
        &rewritten("official_mha", unset("lambda_init"), keep),
        "no metadata lambda_init",
    );
    refused(
        &rewritten("official_mha", unset("eps"), keep),
        "gamma, but no metadata eps",
    );
    refused(
        &rewritten("official_mha", set("causal", "maybe"), keep),
        "expected true or false",
    );
    refused(
        &rewritten("official_mha", set("eps", "tiny"), keep),
        "no number",
    );
    refused(
        &rewritten("official_mha", set("layout", "vllm"), keep),
        "expected official, diffllama or v2",
    );
    refused(
        &rewritten("official_gqa", set("layout", "diffllama"), keep),
        "do not fit layout diffllama",
    );
    let flat = |tensor: &str, dtype, shape: Vec<usize>, data: &[u8]| {
        let shape = if tensor == "dk" {
            vec![shape.iter().product()]
        } else {
            shape
        };
        Some((dtype, shape, data.to_vec()))
    };
    refused(&rewritten("v2", |_| (), flat), "dk: has shape");
    assert!(golden::find(&folder().join("nothing")).is_err());
    assert!(golden::find(folder().parent().unwrap()).is_err());
}

/// A result that is no number must not look like agreement.
#[test]
fn nan_is_no_agreement() {
    let case = Case::parse("v2", &bytes("v2")).unwrap();
    let mut computed = Reference.run(&case).unwrap();
    computed.output[0] = f64::NAN;
    let rows = golden::compare(&case, &computed).unwrap();
    assert!(rows[0].relative.is_nan() && rows[0].max_abs.is_nan());
    computed.output.pop();
    assert!(golden::compare(&case, &computed).is_err());
}
