//! What the functions refuse: a panic at the call with the crate's message, on every backend.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use burn::tensor::{DType, Device, FloatDType, Tensor};
use diff_flash_attn::Options;
use diff_flash_attn::burn::{MultiHeadStandardAttentionConfig, diff_attention};

use crate::cases::{NORM, Source, cube};

thread_local! {
    /// The file that the thread's last panic names.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The message of a refusal, whose place is the call in this file.
fn message(call: impl FnOnce() -> Tensor<4>) -> String {
    let message = panic_of(call);
    assert_eq!(PLACE.take(), file!());
    message
}

/// The message of a panic.
fn panic_of<T>(call: impl FnOnce() -> T) -> String {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", |place| place.file());
            PLACE.set(file.to_string());
            others(panic);
        }));
    });
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
        panic!("nothing was refused");
    };
    panic.downcast_ref::<String>().expect("a message").clone()
}

/// The refusal of a call with one tensor of another shape.
fn refusal(device: &Device, which: usize, shape: &[usize]) -> String {
    let mut source = Source::new(DType::F32, device);
    let shapes: [&[usize]; 5] = [
        &[1, 4, 2, 6, 8],
        &[1, 2, 2, 7, 8],
        &[1, 2, 7, 16],
        &[1, 4, 6],
        &[16],
    ];
    let mut shapes = shapes.map(<[usize]>::to_vec);
    shapes[which] = shape.to_vec();
    let mut five = |shape: &[usize]| source.constant::<5>(shape.try_into().unwrap());
    let (query, key) = (five(&shapes[0]), five(&shapes[1]));
    let value = source.constant::<4>(shapes[2][..].try_into().unwrap());
    let lambda = source.constant::<3>(shapes[3][..].try_into().unwrap());
    let gamma = source.constant::<1>(shapes[4][..].try_into().unwrap());
    let options = Options::default().with_norm(Some(NORM));
    message(|| diff_attention(query, key, value, lambda, Some(gamma), &options))
}

#[test]
fn shapes_that_do_not_fit() {
    for device in [cube(), cube().autodiff(), Device::flex()] {
        for (which, shape, expected) in [
            (0, &[1, 4, 3, 6, 8][..], "query: axis pair is 3, expected 2"),
            (1, &[1, 2, 2, 7, 16], "key: axis dim is 16, expected 8"),
            (1, &[1, 3, 2, 7, 8], "value: axis head is 2, expected 3"),
            (2, &[1, 2, 8, 16], "value: axis seq is 8, expected 7"),
            (3, &[1, 3, 6], "lambda: axis head is 3, expected 4"),
            (4, &[8], "gamma: axis dim is 8, expected 16"),
        ] {
            let message = refusal(&device, which, shape);
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

#[test]
fn types_without_kernels() {
    let device = cube();
    let mut source = Source::new(DType::F32, &device);
    let query = source.constant([1, 1, 2, 4, 8]);
    let (key, value) = (
        query.clone(),
        source.constant([1, 1, 4, 16]).cast(DType::F64),
    );
    let lambda = source.constant([1]);
    let message = message(|| diff_attention(query, key, value, lambda, None, &Options::default()));
    assert_eq!(
        message,
        "value: is stored as f64, expected f32, f16 or bf16"
    );
}

#[test]
fn what_the_device_cannot_do() {
    let mut source = Source::new(DType::F32, &cube());
    let query = source.constant([1, 1, 2, 4, 264]);
    let (value, lambda) = (source.constant([1, 1, 4, 16]), source.constant([1]));
    let options = Options::default();
    let message = message(|| diff_attention(query.clone(), query, value, lambda, None, &options));
    assert_eq!(
        message,
        "query: head dimension is 264, expected a multiple of 8 up to 256"
    );
}

#[test]
fn precisions_of_a_layer_that_the_device_has_not() {
    let device = cube();
    let tokens = Source::new(DType::F32, &device).constant([1, 4, 32]);
    let refusal = |dtype| {
        let config = MultiHeadStandardAttentionConfig::new(32, 2).with_attention_dtype(Some(dtype));
        panic_of(|| config.init(&device).forward(tokens.clone()))
    };
    let message = refusal(FloatDType::F64);
    assert_eq!(
        message,
        "attention: is stored as f64, expected f32, f16 or bf16"
    );
    if device.supports_dtype(DType::BF16) {
        checks::skipped("the device has bf16");
        return;
    }
    let message = refusal(FloatDType::BF16);
    assert!(
        message.starts_with("bf16 is not supported by "),
        "{message}"
    );
}
