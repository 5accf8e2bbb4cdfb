//! Forward and backward on the device against the reference: masks, groups of heads, head dimensions, λ, norms, storage
//! types, lengths, layouts and numbers of maps.
//!
//! A test takes one pair of head dimensions and walks through all other axes at different paces, so that every value of
//! every axis occurs, in other company each time.

mod common;

use common::cases::Case;
use common::device::{Layout, checks, client, run, supports};
use common::tolerance::assert_all;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

const MASKS: [Mask; 4] = [
    Mask::Causal,
    Mask::None,
    Mask::Window {
        left: Some(40),
        right: Some(3),
    },
    Mask::Window {
        left: Some(31),
        right: Some(0),
    },
];

/// Query heads, key and value heads, whether both maps share the key.
const HEADS: [(usize, usize, bool); 4] =
    [(4, 2, false), (2, 2, false), (4, 1, false), (4, 2, true)];

/// Query and key lengths.
const LENGTHS: [(usize, usize); 6] = [(113, 203), (65, 64), (1, 1), (128, 217), (239, 1), (1, 97)];

const LAYOUTS: [Layout; 4] = [
    Layout::Interleaved,
    Layout::HalfSplit,
    Layout::HeadsFirst,
    Layout::Unaligned,
];

const NORM: Option<Norm> = Some(Norm {
    eps: 1e-5,
    lambda_init: 0.2,
});

/// Norm, and whether it has a weight.
const NORMS: [(Option<Norm>, bool); 3] = [(NORM, true), (None, false), (NORM, false)];

/// Case number `i` for a pair of head dimensions.
fn case(i: usize, head_dim: usize, value_dim: usize, dtype: DType) -> (Case, Layout) {
    let (heads, kv_heads, shared_key) = HEADS[(i + i / 4) % 4];
    let (query_len, key_len) = LENGTHS[(i + i / 6) % 6];
    let (norm, gamma) = NORMS[i % 3];
    let maps = if i % 4 == 3 { 1 } else { 2 };
    let batch = 1 + i % 2;
    let problem = Problem {
        batch,
        query_len,
        key_len,
        heads,
        kv_heads,
        head_dim,
        value_dim,
        maps,
        shared_key: shared_key && maps == 2,
        mask: MASKS[i % 4],
        scale: 1.0 / (head_dim as f32).sqrt(),
        dtype,
        norm,
    };
    let lambda = [vec![1], vec![heads], vec![batch, query_len, heads]];
    let case = Case::random(problem, &lambda[(i + i / 3) % 3], gamma, i as u64);
    (case, LAYOUTS[(i + i / 2) % 4])
}

/// Runs the cases `range` for one pair of head dimensions, every second in f16 where the device has it.
fn cover(head_dim: usize, value_dim: usize, range: core::ops::Range<usize>) {
    let client = client();
    let half = supports(&client, DType::F16);
    let slow = client.properties().identity.name.contains("SwiftShader") && head_dim >= 64;
    for i in range.take(if slow { 1 } else { usize::MAX }) {
        let dtype = if half && i % 2 == 1 {
            DType::F16
        } else {
            DType::F32
        };
        let (case, layout) = case(i, head_dim, value_dim, dtype);
        let Problem {
            query_len,
            key_len,
            mask,
            maps,
            ..
        } = case.problem;
        let name = format!(
            "{i}: d{head_dim} dv{value_dim} {dtype} {query_len}×{key_len} {mask:?} {maps} maps {layout:?}"
        );
        let ours = run(&client, &case, layout, Tuning::default());
        assert_all(&name, &checks(&case, &ours));
    }
    if slow {
        println!(
            "SKIPPED other cases of d{head_dim} dv{value_dim}: SwiftShader takes minutes for them"
        );
    }
}

#[test]
fn d16_dv32() {
    cover(16, 32, 0..12);
}

#[test]
fn d32_dv64() {
    cover(32, 64, 3..9);
}

#[test]
fn d40_dv24() {
    cover(40, 24, 6..12);
}

#[test]
fn d64_dv64() {
    cover(64, 64, 8..12);
}

#[test]
fn d64_dv128() {
    cover(64, 128, 12..16);
}

#[test]
fn d128_dv256() {
    cover(128, 256, 19..22);
}

#[test]
fn bf16_where_the_device_has_it() {
    let client = client();
    if supports(&client, DType::BF16) {
        let (case, layout) = case(0, 64, 128, DType::BF16);
        let ours = run(&client, &case, layout, Tuning::default());
        assert_all("bf16", &checks(&case, &ours));
    }
}
