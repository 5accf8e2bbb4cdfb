//! The yardstick itself: the plain implementation is as exact as its precision, and the rule refuses what is worse.

use checks::cases::{Case, rounding, wide};
use checks::plain;
use checks::tolerance::{Check, Expected};
use diff_flash_attn::{DType, Mask, Norm, Problem};

fn problem(dtype: DType) -> Problem {
    Problem::differential([2, 19, 13], [4, 2], [8, 16])
        .with_mask(Mask::Causal)
        .with_scale(0.35)
        .with_dtype(dtype)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: 0.2,
        }))
}

fn relative(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let finite = ours.iter().zip(theirs).filter(|(x, y)| x != y);
    let difference: f64 = finite.map(|(x, y)| (x - y).powi(2)).sum();
    let norm: f64 = theirs.iter().filter(|y| y.is_finite()).map(|y| y * y).sum();
    (difference / norm).sqrt()
}

/// Relative error of every tensor of both passes.
fn errors(case: &Case) -> Vec<(&'static str, f64)> {
    let (exact, plain) = (case.forward(), plain::forward(case));
    let (grad, plain_grad) = (case.backward(), plain::backward(case));
    let mut errors = vec![
        ("output", relative(&plain.output, &exact.output)),
        (
            "unnormalized",
            relative(&plain.unnormalized, &exact.unnormalized),
        ),
        ("lse", relative(&plain.lse, &exact.lse)),
        ("dq", relative(&plain_grad.query, &grad.query)),
        ("dk", relative(&plain_grad.key, &grad.key)),
        ("dv", relative(&plain_grad.value, &grad.value)),
    ];
    if case.problem.maps == 2 {
        errors.push((
            "noise_output",
            relative(&plain.noise_output, &exact.noise_output),
        ));
        errors.push(("dlambda", relative(&plain_grad.lambda, &grad.lambda)));
    }
    if let (Some(plain), Some(exact)) = (&plain_grad.gamma, &grad.gamma) {
        errors.push(("dgamma", relative(plain, exact)));
    }
    errors
}

#[test]
fn plain_errs_by_its_precision() {
    // Unit roundoff of the type, and a factor for the sums and for what the norm magnifies.
    for (dtype, roundoff) in [
        (DType::F32, 2f64.powi(-24)),
        (DType::F16, 2f64.powi(-11)),
        (DType::BF16, 2f64.powi(-8)),
    ] {
        let differential = problem(dtype);
        let standard = differential
            .with_maps(1)
            .with_norm(None)
            .with_mask(Mask::None);
        let shared = differential.with_shared_key(true).with_norm(None);
        let cases = [
            Case::random(differential, &[1], true, 1),
            Case::random(differential, &[4], false, 2),
            Case::random(shared, &[2, 19, 4], false, 3),
            Case::random(standard, &[], false, 4),
        ];
        for (which, case) in cases.iter().enumerate() {
            for (tensor, error) in errors(case) {
                assert!(
                    error < 16.0 * roundoff,
                    "{dtype} case {which}, {tensor}: {error:.1e}"
                );
                assert!(
                    error > roundoff / 64.0,
                    "{dtype} case {which}, {tensor}: {error:.1e} is too good to be plain"
                );
            }
        }
    }
}

#[test]
fn inputs_are_exact_in_their_type() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let case = Case::random(problem(dtype), &[1], true, 5);
        let round = rounding(dtype);
        for values in [&case.query, &case.key, &case.value, &case.grad_output] {
            assert!(values.iter().all(|x| round(*x) == *x));
            let square = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
            assert!((0.8..1.2).contains(&square), "variance {square}");
        }
        assert_eq!(
            case.query,
            Case::random(problem(dtype), &[1], true, 5).query
        );
        assert_ne!(
            case.query,
            Case::random(problem(dtype), &[1], true, 6).query
        );
    }
}

#[test]
fn rule_accepts_plain_and_refuses_worse() {
    let case = Case::random(problem(DType::F16), &[1], true, 7);
    let (exact, plain) = (case.forward().output, plain::forward(&case).output);
    let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|x| *x as f32).collect() };
    let expected = Expected {
        exact: &exact,
        plain: &plain,
        summed: 0.0,
        rounding: None,
    };
    let check = |ours: &[f32]| Check::new("output", DType::F16, ours, &expected);
    let good = check(&narrow(&plain));
    assert!(good.passes() && good.error > 0.0, "{good}");
    let mut wrong = narrow(&exact);
    assert!(check(&wrong).passes());
    wrong[3] += 1.01 * good.allowed as f32;
    assert!(!check(&wrong).passes());
    wrong[3] = f32::NAN;
    assert!(!check(&wrong).passes());
    wrong[3] = f32::INFINITY;
    assert!(!check(&wrong).passes());
    let infinite = [f64::NEG_INFINITY];
    assert!(!lse_check(&[-3.0], &infinite, None).passes());
}

#[test]
fn minus_infinity_is_the_correct_statistic_of_an_empty_row() {
    let lse = [f64::NEG_INFINITY, 1.5];
    let check = lse_check(&[f32::NEG_INFINITY, 1.5], &lse, None);
    assert_eq!((check.error, check.passes()), (0.0, true));
    assert_eq!(wide(&[f32::NEG_INFINITY, 1.5]), lse);
}

#[test]
fn f32_passes_within_what_rounding_costs_each_element() {
    let (lse, cost) = ([1.0, 2.0], [1e-3, 1e-6]);
    assert!(lse_check(&[1.0005, 2.0], &lse, Some(&cost)).passes());
    assert!(!lse_check(&[1.0, 2.0005], &lse, Some(&cost)).passes());
    assert!(!lse_check(&[1.0005, 2.0], &lse, None).passes());
    assert!(!lse_check(&[f32::NAN, 2.0], &lse, Some(&cost)).passes());
}

#[test]
fn shared_lambda_may_cost_what_its_rows_add_up_to() {
    let check = |ours: f32, plain: f64| {
        let expected = Expected {
            exact: &[8.0],
            plain: &[plain],
            summed: 0.25,
            rounding: None,
        };
        Check::new("dlambda", DType::F32, &[ours], &expected)
    };
    // Plain happened to be exact, or happened to err more than its rows let expect.
    for (ours, plain, passes) in [
        (8.49, 8.0, true),
        (7.51, 8.0, true),
        (8.51, 8.0, false),
        (8.51, 8.5, true),
        (9.01, 8.5, false),
    ] {
        assert_eq!(check(ours, plain).passes(), passes, "{ours}, {plain}");
    }
}

fn lse_check(ours: &[f32], lse: &[f64], rounding: Option<&[f64]>) -> Check {
    let expected = Expected {
        exact: lse,
        plain: lse,
        summed: 0.0,
        rounding,
    };
    Check::new("lse", DType::F32, ours, &expected)
}
