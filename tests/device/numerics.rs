//! Where attention goes wrong numerically: cancelling maps, λ of any sign, long uniform rows, large logits, rows that
//! see nothing.

use checks::cases::Case;
use checks::device::{Layout, Results, checks, client, run, supports};
use checks::tolerance::assert_all;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

const NORM: Option<Norm> = Some(Norm {
    eps: 1e-5,
    lambda_init: 0.2,
});

fn problem(query_len: usize, key_len: usize, mask: Mask, norm: Option<Norm>) -> Problem {
    Problem::differential([1, query_len, key_len], [2, 1], [16, 32])
        .with_mask(mask)
        .with_scale(0.25)
        .with_norm(norm)
}

fn all(results: &Results) -> impl Iterator<Item = &f32> {
    let Results {
        output,
        outputs,
        query,
        key,
        value,
        lambda,
        gamma,
        ..
    } = results;
    [output, outputs, query, key, value, lambda, gamma]
        .into_iter()
        .flatten()
}

fn compare(name: &str, case: &Case) -> Results {
    let ours = run(&client(), case, Layout::Interleaved, Tuning::default());
    assert_all(name, &checks(case, &ours));
    ours
}

#[test]
fn equal_maps_with_lambda_one_cancel() {
    let mut case = Case::random(problem(65, 64, Mask::Causal, NORM), &[1], true, 1);
    for rows in [&mut case.query, &mut case.key] {
        for pair in rows.chunks_mut(32) {
            let (signal, noise) = pair.split_at_mut(16);
            noise.copy_from_slice(signal);
        }
    }
    case.lambda = vec![1.0];
    let ours = run(&client(), &case, Layout::Interleaved, Tuning::default());
    assert!(
        ours.output.iter().all(|x| *x == 0.0),
        "P_1 V − P_2 V is not 0"
    );
    // The norm sits at eps and multiplies gradients by 1/√eps: they are large, equal and opposite, and finite.
    assert!(all(&ours).all(|x| x.is_finite()));
    let exact = case.backward();
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let scale = largest(&mut exact.query.iter().map(|x| x.abs()));
    let pairs = ours.query.iter().zip(&exact.query);
    let error = largest(&mut pairs.map(|(ours, exact)| (f64::from(*ours) - exact).abs()));
    assert!(error < 1e-5 * scale, "dq: error {error:e} of {scale:e}");
}

#[test]
fn lambda_of_any_sign_and_size() {
    for lambda in [0.0, -0.5, 2.0] {
        let mut case = Case::random(problem(65, 64, Mask::Causal, NORM), &[1, 65, 2], true, 2);
        case.lambda.fill(lambda);
        compare(&format!("λ = {lambda}"), &case);
    }
}

#[test]
fn uniform_attention_over_4096_keys() {
    let mut case = Case::random(problem(3, 4096, Mask::None, NORM), &[1, 3, 2], true, 3);
    case.query.fill(0.0);
    compare("uniform", &case);
}

/// Nearly every row is one-hot: `dP − δ` cancels to the last digits.
#[test]
fn large_logits() {
    let mut case = Case::random(problem(65, 64, Mask::Causal, NORM), &[1], true, 4);
    case.problem.scale *= 30.0;
    compare("logits × 30", &case);
}

#[test]
fn f16_near_its_limits() {
    if !supports(&client(), DType::F16) {
        return;
    }
    let mut case = Case::random(
        problem(65, 64, Mask::Causal, None).with_dtype(DType::F16),
        &[1],
        false,
        5,
    );
    case.value
        .iter_mut()
        .for_each(|x| *x = x.clamp(-3.0, 3.0) * 8192.0);
    case.grad_output
        .iter_mut()
        .for_each(|x| *x = x.clamp(-3.0, 3.0) / 8192.0);
    compare("values up to 24576", &case);
}

/// The softmax of a single key does not depend on its score. Before a norm the output is the value itself, and its
/// gradient is rounded to the storage type: dP and δ must be made of the same rounded one to cancel.
#[test]
fn single_key_has_no_gradient() {
    for dtype in [DType::F32, DType::F16] {
        if !supports(&client(), dtype) {
            continue;
        }
        let problem = problem(7, 1, Mask::None, NORM)
            .with_dtype(dtype)
            .with_maps(1);
        let case = Case::random(problem, &[], false, 7);
        let ours = run(&client(), &case, Layout::Interleaved, Tuning::default());
        let largest = ours.query.iter().fold(0.0, |a: f32, x| a.max(x.abs()));
        println!("{dtype}: largest dq {largest:.1e}");
        assert!(largest < 1e-5, "{dtype}: dq {largest:e}");
    }
}

#[test]
fn rows_that_see_no_key() {
    // Causal with more queries than keys: the first 30 see nothing. A window far ahead: the last ones see nothing.
    let window = Mask::Window {
        left: None,
        right: Some(0),
    };
    for (mask, empty) in [(Mask::Causal, 30), (window, 30)] {
        for norm in [NORM, None] {
            let case = Case::random(problem(70, 40, mask, norm), &[1], norm.is_some(), 6);
            let ours = compare(&format!("{mask:?} {}", norm.is_some()), &case);
            assert!(all(&ours).all(|x| x.is_finite()));
            let zero = |values: &[f32], row: usize| values[..empty * row].iter().all(|x| *x == 0.0);
            assert!(zero(&ours.output, 2 * 32) && zero(&ours.query, 2 * 2 * 16));
            for line in ours.lse.chunks(70) {
                assert!(line[..empty].iter().all(|x| *x == f32::NEG_INFINITY));
                assert!(line[empty..].iter().all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn rows_of_zeros_stay_zero_in_a_norm_without_eps() {
    let norm = Some(Norm {
        eps: 0.0,
        lambda_init: 0.2,
    });
    let case = Case::random(problem(70, 40, Mask::Causal, norm), &[1], true, 8);
    let ours = compare("eps = 0", &case);
    assert!(all(&ours).all(|x| x.is_finite()));
}
