//! Bad input is refused by an error that names the tensor, what it has and what was expected; nothing panics.

use checks::changed;
use checks::device::client;
use checks::skipped;
use cubecl::prelude::Client;
use diff_flash_attn::tuning::{Family, Pass, Plane, PortableSettings};
use diff_flash_attn::{
    DType, Error, Forward, Gradients, Inputs, Mask, Norm, Options, Tensor, Tuning, backward,
    backward_into, forward, forward_into,
};

fn tensor(client: &Client, shape: &[usize]) -> Tensor {
    Tensor::empty(client, DType::F32, shape)
}

/// Two sequences of 5 queries and 7 keys, 4 heads on 2, d 8, dv 16.
fn inputs(client: &Client) -> Inputs {
    Inputs::differential(
        tensor(client, &[2, 5, 4, 2, 8]),
        tensor(client, &[2, 7, 2, 2, 8]),
        tensor(client, &[2, 7, 2, 16]),
        tensor(client, &[4]),
    )
}

/// What makes good inputs bad.
type Change = fn(&Client, &mut Inputs);

/// The message of the error with which the inputs, changed, are refused.
fn refused(change: impl Fn(&Client, &mut Inputs)) -> String {
    refused_with(change, Options::default())
}

fn refused_with(change: impl Fn(&Client, &mut Inputs), options: Options) -> String {
    let client = client();
    let mut inputs = inputs(&client);
    change(&client, &mut inputs);
    forward(&client, &inputs, &options).unwrap_err().to_string()
}

#[test]
fn ranks() {
    let query = refused(|client, inputs| inputs.query = tensor(client, &[2, 5, 8, 8]));
    assert_eq!(query, "query: has 4 axes, expected [B, Nq, H, 2, d]");
    let key = refused(|client, inputs| inputs.key = tensor(client, &[7, 2, 8]));
    assert_eq!(
        key,
        "key: has 3 axes, expected [B, Nk, Hk, 2, d], or [B, Nk, Hk, d] if shared"
    );
    let value = refused(|client, inputs| inputs.value = tensor(client, &[16]));
    assert_eq!(
        value,
        "value: has 1 axes, expected [B, Nk, Hk, dv] or [B, Nk, Hk, 2, dv/2]"
    );
    let lambda = refused(|client, inputs| inputs.lambda = Some(tensor(client, &[1, 2, 5, 4])));
    assert_eq!(lambda, "lambda: has 4 axes, expected at most [B, Nq, H]");
    let standard = refused(|_, inputs| inputs.lambda = None);
    assert_eq!(standard, "query: has 5 axes, expected [B, Nq, H, d]");
}

#[test]
fn sizes() {
    let cases: [(&str, Change); 9] = [
        (
            "query: axis pair is 3, expected 2 (shape [2, 5, 4, 3, 8])",
            |c, i| i.query = tensor(c, &[2, 5, 4, 3, 8]),
        ),
        (
            "key: axis batch is 3, expected 2 (shape [3, 7, 2, 2, 8])",
            |c, i| i.key = tensor(c, &[3, 7, 2, 2, 8]),
        ),
        (
            "key: axis dim is 16, expected 8 (shape [2, 7, 2, 2, 16])",
            |c, i| i.key = tensor(c, &[2, 7, 2, 2, 16]),
        ),
        (
            "key: axis pair is 4, expected 2 (shape [2, 7, 2, 4, 8])",
            |c, i| i.key = tensor(c, &[2, 7, 2, 4, 8]),
        ),
        (
            "value: axis batch is 1, expected 2 (shape [1, 7, 2, 16])",
            |c, i| i.value = tensor(c, &[1, 7, 2, 16]),
        ),
        (
            "value: axis seq is 6, expected 7 (shape [2, 6, 2, 16])",
            |c, i| i.value = tensor(c, &[2, 6, 2, 16]),
        ),
        (
            "value: axis head is 4, expected 2 (shape [2, 7, 4, 16])",
            |c, i| i.value = tensor(c, &[2, 7, 4, 16]),
        ),
        (
            "value: axis half is 3, expected 2 (shape [2, 7, 2, 3, 8])",
            |c, i| i.value = tensor(c, &[2, 7, 2, 3, 8]),
        ),
        ("lambda: axis head is 3, expected 4 (shape [3])", |c, i| {
            i.lambda = Some(tensor(c, &[3]))
        }),
    ];
    for (expected, change) in cases {
        assert_eq!(refused(change), expected);
    }
}

#[test]
fn empty_axes() {
    let query = refused(|client, inputs| inputs.query = tensor(client, &[2, 0, 4, 2, 8]));
    assert_eq!(query, "query: axis seq is empty (shape [2, 0, 4, 2, 8])");
    let key = refused(|client, inputs| inputs.key = tensor(client, &[2, 7, 0, 2, 8]));
    assert_eq!(key, "key: axis head is empty (shape [2, 7, 0, 2, 8])");
}

#[test]
fn heads_and_head_dimensions() {
    let heads = refused(|client, inputs| inputs.query = tensor(client, &[2, 5, 3, 2, 8]));
    assert_eq!(heads, "query: has 3 heads, expected a multiple of key's 2");
    let odd = refused(|client, inputs| inputs.query = tensor(client, &[2, 5, 4, 2, 12]));
    assert_eq!(
        odd,
        "query: head dimension is 12, expected a multiple of 8 up to 256"
    );
    let large = refused(|client, inputs| inputs.value = tensor(client, &[2, 7, 2, 264]));
    assert_eq!(
        large,
        "value: head dimension is 264, expected a multiple of 8 up to 256"
    );
}

#[test]
fn strides() {
    let strided = |client: &Client, shape: &[usize], strides: &[usize], offset| {
        let buffer = tensor(client, &[640]);
        Tensor::strided(buffer.handle().clone(), DType::F32, offset, shape, strides)
    };
    let shape = [2, 5, 4, 2, 8];
    let last = refused(|c, i| i.query = strided(c, &shape, &[320, 64, 16, 1, 2], 0));
    assert_eq!(
        last,
        "query: the last axis has stride 2, expected 1 (strides [320, 64, 16, 1, 2])"
    );
    let few = refused(|c, i| i.query = strided(c, &shape, &[320, 64, 16, 8], 0));
    assert_eq!(few, "query: has 4 strides for 5 axes");
    let far = refused(|c, i| i.query = strided(c, &shape, &[321, 64, 16, 8, 1], 0));
    assert_eq!(far, "query: reaches element 641, its buffer holds 640");
    let shifted = refused(|c, i| i.query = strided(c, &shape, &[320, 64, 16, 8, 1], 1));
    assert_eq!(shifted, "query: reaches element 641, its buffer holds 640");
    let huge = refused(|c, i| i.query = strided(c, &shape, &[usize::MAX, 64, 16, 8, 1], 1));
    assert!(huge.starts_with("query: reaches element "), "{huge}");
}

#[test]
fn storage_types() {
    let mixed = refused(|c, i| i.key = Tensor::empty(c, DType::F16, &[2, 7, 2, 2, 8]));
    assert_eq!(mixed, "key: is stored as f16, expected f32");
    let lambda = refused(|c, i| i.lambda = Some(Tensor::empty(c, DType::F16, &[4])));
    assert_eq!(lambda, "lambda: is stored as f16, expected f32");
    let client = client();
    if client.name() != "wgpu<wgsl>" {
        skipped(format_args!("{} may have bf16", client.name()));
        return;
    }
    let bf16 = |shape: &[usize]| Tensor::empty(&client, DType::BF16, shape);
    let inputs = Inputs::standard(
        bf16(&[1, 5, 2, 8]),
        bf16(&[1, 5, 2, 8]),
        bf16(&[1, 5, 2, 8]),
    );
    let error = forward(&client, &inputs, &Options::default()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::UnsupportedType {
                dtype: DType::BF16,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn numbers() {
    for scale in [f32::NAN, f32::INFINITY] {
        let options = Options::default().with_scale(Some(scale));
        let error = refused_with(|_, _| {}, options);
        assert_eq!(error, format!("scale is {scale}, expected a finite number"));
    }
    for (norm, expected) in [
        (
            Norm {
                eps: -1.0,
                lambda_init: 0.2,
            },
            "norm eps is -1, expected a finite number, at least 0",
        ),
        (
            Norm {
                eps: f32::NAN,
                lambda_init: 0.2,
            },
            "norm eps is NaN, expected a finite number, at least 0",
        ),
        (
            Norm {
                eps: 0.0,
                lambda_init: f32::INFINITY,
            },
            "norm lambda_init is inf, expected a finite number",
        ),
    ] {
        let options = Options::default().with_norm(Some(norm));
        assert_eq!(refused_with(|_, _| {}, options), expected);
    }
}

#[test]
fn gamma() {
    let norm = Options::default().with_norm(Some(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    }));
    let unused = refused(|c, i| i.gamma = Some(tensor(c, &[16])));
    assert_eq!(unused, "gamma: given, but the options have no norm");
    let short = refused_with(|c, i| i.gamma = Some(tensor(c, &[8])), norm);
    assert_eq!(short, "gamma: axis dim is 8, expected 16 (shape [8])");
    let rank = refused_with(|c, i| i.gamma = Some(tensor(c, &[1, 16])), norm);
    assert_eq!(rank, "gamma: has 2 axes, expected [dv]");
    let view = |c: &Client| {
        Tensor::strided(
            tensor(c, &[17]).handle().clone(),
            DType::F32,
            1,
            &[16],
            &[1],
        )
    };
    let shifted = refused_with(|c, i| i.gamma = Some(view(c)), norm);
    assert_eq!(
        shifted,
        "gamma: has offset 1 and strides [1], expected a row-major tensor without offset"
    );
}

#[test]
fn outputs() {
    let client = client();
    let inputs = inputs(&client);
    let refuse = |output: &Tensor| {
        forward_into(&client, &inputs, &Options::default(), output, None)
            .unwrap_err()
            .to_string()
    };
    let wrong = refuse(&tensor(&client, &[2, 5, 4, 8]));
    assert_eq!(
        wrong,
        "output: axis dim is 8, expected 16 (shape [2, 5, 4, 8])"
    );
    let wrong = refuse(&tensor(&client, &[5, 4, 16]));
    assert_eq!(wrong, "output: has 3 axes, expected [B, Nq, H, dv]");
    let wrong = refuse(&Tensor::empty(&client, DType::F16, &[2, 5, 4, 16]));
    assert_eq!(wrong, "output: is stored as f16, expected f32");
    let buffer = tensor(&client, &[640]);
    let repeated = Tensor::strided(
        buffer.handle().clone(),
        DType::F32,
        0,
        &[2, 5, 4, 16],
        &[0, 64, 16, 1],
    );
    assert_eq!(
        refuse(&repeated),
        "output: is written, but its axes overlap (shape [2, 5, 4, 16], strides [0, 64, 16, 1])"
    );
}

#[test]
fn gradients_and_saved_tensors() {
    let client = client();
    let inputs = inputs(&client);
    let options = Options::default().with_save_for_backward(true);
    let Forward { output, saved, .. } = forward(&client, &inputs, &options).unwrap();
    let saved = saved.unwrap();
    let short = tensor(&client, &[2, 4, 4, 16]);
    let error = backward(&client, &inputs, &saved, &short, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "gradient of output: axis seq is 4, expected 5 (shape [2, 4, 4, 16])"
    );

    let mut wrong = saved.clone();
    wrong.lse = tensor(&client, &[2, 4, 1, 5]);
    let error = backward(&client, &inputs, &wrong, &output, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "saved lse: axis map is 1, expected 2 (shape [2, 4, 1, 5])"
    );

    let gradients = backward(&client, &inputs, &saved, &output, &options).unwrap();
    let refuse = |gradients: &Gradients| {
        let result = backward_into(&client, &inputs, &saved, &output, &options, gradients);
        result.unwrap_err().to_string()
    };
    let missing = changed(gradients.clone(), |it| it.lambda = None);
    assert_eq!(
        refuse(&missing),
        "gradient of lambda: missing, but its input is given"
    );
    let unwanted = changed(gradients.clone(), |it| {
        it.gamma = Some(tensor(&client, &[16]))
    });
    assert_eq!(
        refuse(&unwanted),
        "gradient of gamma: given, but its input is not"
    );
    let wrong = changed(gradients, |it| it.key = tensor(&client, &[2, 7, 2, 1, 8]));
    assert_eq!(
        refuse(&wrong),
        "gradient of key: axis pair is 1, expected 2 (shape [2, 7, 2, 1, 8])"
    );
}

#[test]
fn kernel_of_another_device() {
    let tuning = Tuning::of(Family::Hopper);
    let options = Options::default().with_tuning(tuning);
    let message = refused_with(|_, _| {}, options);
    // A build without the kernel says that instead.
    let reasons = [
        "needs CUDA on compute capability 9.0",
        "built without feature `hopper`",
        "tensor cores have no f32",
    ];
    assert!(
        reasons.iter().any(|reason| message.contains(reason)),
        "{message}"
    );
}

#[test]
fn settings() {
    let good = PortableSettings::new([1, 4, 8, 8, 32], Plane::Unused);
    let refuse = |settings: PortableSettings| {
        let tuning = Tuning::default().with(Pass::Forward, settings);
        refused_with(|_, _| {}, Options::default().with_tuning(tuning))
    };
    let cases = [
        (
            changed(good, |it| it.rows = 0),
            "settings r0c4y8x8k32: a size is zero",
        ),
        (
            changed(good, |it| it.cols = 6),
            "settings r1c6y8x8k32: cols is no multiple of 4",
        ),
        (
            changed(good, |it| it.chunk = 24),
            "settings r1c4y8x8k24: chunk is no multiple of 4 · units_x",
        ),
    ];
    for (settings, expected) in cases {
        assert_eq!(refuse(settings), expected);
    }
    let broadcast = refuse(changed(good, |it| {
        it.plane = Plane::Broadcast;
        it.chunk = 0;
    }));
    assert!(
        broadcast.ends_with("sharing reads in a plane needs units_x = 1"),
        "{broadcast}"
    );
    let units = refuse(changed(good, |it| it.units_y = 4096));
    assert!(
        units.starts_with("units of a cube: 32768 needed, the limit of "),
        "{units}"
    );
    let memory = refuse(changed(good, |it| it.rows = 1024));
    assert!(memory.starts_with("bytes of shared memory: "), "{memory}");
}

#[test]
fn tensors_and_grids() {
    let client = client();
    let error = Tensor::from_f32(&client, DType::F32, &[2, 3], &[0.0; 5]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "5 elements given for shape [2, 3], which has 6"
    );
    for axes in [&[0, 0][..], &[0], &[0, 2]] {
        let error = tensor(&client, &[2, 3]).permute(axes).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("axes {axes:?} are no permutation of 0..2")
        );
    }
    let batch = 1 << 17;
    let inputs = Inputs::standard(
        tensor(&client, &[batch, 1, 1, 8]),
        tensor(&client, &[batch, 1, 1, 8]),
        tensor(&client, &[batch, 1, 1, 8]),
    );
    let options = Options::default().with_mask(Mask::Causal);
    let error = forward(&client, &inputs, &options).unwrap_err().to_string();
    assert!(
        error.starts_with("cubes along an axis of the grid: 131072 needed, the limit of "),
        "{error}"
    );
}

#[test]
fn repeated_axes_that_ask_for_more_than_kernels_can_count() {
    // Stride 0 makes a huge axis of a small buffer.
    let repeated = |client: &Client, shape: &[usize]| {
        let strides: Vec<usize> = (0..shape.len())
            .map(|i| usize::from(i + 1 == shape.len()))
            .collect();
        let buffer = tensor(client, &[64]);
        Tensor::strided(buffer.handle().clone(), DType::F32, 0, shape, &strides)
    };
    let (long, most) = (usize::MAX / 2, i32::MAX / 2);
    let query = refused(|c, i| i.query = repeated(c, &[2, long, 4, 2, 8]));
    assert_eq!(
        query,
        format!("query: has {long} rows, more than the {most} that kernels can count")
    );
    let keys = refused(|c, i| {
        i.key = repeated(c, &[2, long, 2, 2, 8]);
        i.value = repeated(c, &[2, long, 2, 16]);
    });
    assert_eq!(
        keys,
        format!("key: has {long} rows, more than the {most} that kernels can count")
    );
    let rows = 1 << 29;
    let output = refused(|c, i| i.query = repeated(c, &[2, rows, 4, 2, 8]));
    assert_eq!(
        output,
        "query: has 68719476736 elements, more than the 4294967295 that kernels can count"
    );
}

#[test]
fn tensors_that_no_device_can_hold() {
    let client = client();
    let huge = Tensor::empty(&client, DType::F32, &[usize::MAX, 3]);
    assert_eq!(huge.len(), usize::MAX);
    let error = huge.to_f32(&client).unwrap_err();
    println!("{error}");
}

#[test]
fn settings_beyond_any_device() {
    let settings = PortableSettings::new([usize::MAX, 4, 8, 8, 32], Plane::Unused);
    let tuning = Tuning::default().with(Pass::Forward, settings);
    let options = Options::default().with_tuning(tuning);
    let message = refused_with(|_, _| (), options);
    assert_eq!(
        message,
        "settings r18446744073709551615c4y8x8k32: rows, cols or chunk is above 1024"
    );
}
