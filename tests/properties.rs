//! Random shapes, layouts, masks and groups against the reference.

mod common;

use common::cases::Case;
use common::device::{Layout, checks, client, run};
use common::tolerance::Check;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};
use proptest::prelude::*;

fn masks() -> impl Strategy<Value = Mask> {
    let side = || proptest::option::of(0..60_usize);
    prop_oneof![
        Just(Mask::None),
        Just(Mask::Causal),
        (side(), side()).prop_map(|(left, right)| Mask::Window { left, right }),
    ]
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![
        Just(Layout::Interleaved),
        Just(Layout::HalfSplit),
        Just(Layout::HeadsFirst),
        Just(Layout::Unaligned),
    ]
}

/// Two head dimensions and two norms, so that few kernels are compiled; everything else is free.
fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (1..3_usize, 1..70_usize, 1..70_usize, 1..3_usize, 1..4_usize);
    (sizes, any::<bool>(), any::<bool>(), any::<bool>(), masks()).prop_map(
        |((batch, query_len, key_len, kv_heads, group), wide, norm, shared_key, mask)| Problem {
            batch,
            query_len,
            key_len,
            heads: group * kv_heads,
            kv_heads,
            head_dim: 8,
            value_dim: if wide { 24 } else { 16 },
            maps: 2,
            shared_key,
            mask,
            scale: 0.3,
            dtype: DType::F32,
            norm: norm.then_some(Norm {
                eps: 1e-5,
                lambda_init: 0.2,
            }),
        },
    )
}

/// The rule of the other tests is for large tensors, whose worst element is like another's worst element. Here tensors
/// may have one row: an error counts from where it exceeds both that rule and 2e-5 of the tensor's largest element or 1.
fn wrong(check: &Check, ours: &[f32]) -> bool {
    let largest = ours.iter().fold(1.0_f32, |largest, x| largest.max(x.abs()));
    !check.passes() && check.error > 2e-5 * f64::from(largest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_problem(problem in problems(), layout in layouts(), shape in 0..3_usize, seed in any::<u64>()) {
        let shapes = [vec![1], vec![problem.heads], vec![problem.batch, problem.query_len, 1]];
        let case = Case::random(problem, &shapes[shape], problem.norm.is_some(), seed);
        let ours = run(&client(), &case, layout, Tuning::default());
        for check in checks(&case, &ours) {
            let tensor = match check.tensor {
                "output" => &ours.output,
                "lse" => &ours.lse,
                "dq" => &ours.query,
                "dk" => &ours.key,
                "dv" => &ours.value,
                "dlambda" => &ours.lambda,
                "dgamma" => &ours.gamma,
                _ => &ours.outputs,
            };
            prop_assert!(!wrong(&check, tensor), "{check}");
        }
    }
}
