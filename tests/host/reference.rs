//! The `f64` reference: its gradients against central differences, its forward pass against the attention maps, its
//! masks against the definition.

use approx::assert_relative_eq;
use diff_flash_attn::lambda::{LambdaVectors, lambda, lambda_gradient};
use diff_flash_attn::reference::{self, Gradients, Inputs};
use diff_flash_attn::{Error, Mask, Norm, Problem};
use rand::{Rng, SeedableRng, rngs::StdRng};

const MASKS: [Mask; 5] = [
    Mask::None,
    Mask::Causal,
    Mask::Window {
        left: Some(1),
        right: Some(1),
    },
    Mask::Window {
        left: Some(2),
        right: Some(0),
    },
    Mask::Window {
        left: None,
        right: Some(1),
    },
];

/// Kinds of heads: multi-head, grouped and multi-query; then grouped with one key for both maps.
const HEADS: [(usize, usize, bool); 4] =
    [(2, 2, false), (4, 2, false), (3, 1, false), (4, 2, true)];

/// More keys than queries, and the reverse: then a causal mask leaves the first queries without a key.
const LENGTHS: [(usize, usize); 2] = [(3, 5), (5, 3)];

#[derive(Debug, Clone, Copy, PartialEq)]
enum NormKind {
    None,
    Plain,
    Weighted,
}

#[derive(Clone, Copy)]
enum Input {
    Query,
    Key,
    Value,
    Lambda,
    Gamma,
}

const INPUTS: [Input; 5] = [
    Input::Query,
    Input::Key,
    Input::Value,
    Input::Lambda,
    Input::Gamma,
];

impl Input {
    fn of(self, inputs: &mut Inputs) -> &mut [f64] {
        match self {
            Input::Query => &mut inputs.query,
            Input::Key => &mut inputs.key,
            Input::Value => &mut inputs.value,
            Input::Lambda => &mut inputs.lambda,
            Input::Gamma => inputs.gamma.as_deref_mut().unwrap_or_default(),
        }
    }

    fn gradient(self, gradients: &Gradients) -> &[f64] {
        match self {
            Input::Query => &gradients.query,
            Input::Key => &gradients.key,
            Input::Value => &gradients.value,
            Input::Lambda => &gradients.lambda,
            Input::Gamma => gradients.gamma.as_deref().unwrap_or_default(),
        }
    }
}

fn problem(
    maps: usize,
    mask: Mask,
    heads: (usize, usize, bool),
    lengths: (usize, usize),
) -> Problem {
    Problem::new(maps, [1, lengths.0, lengths.1], [heads.0, heads.1], [3, 5])
        .with_shared_key(heads.2)
        .with_mask(mask)
        .with_scale(0.7)
}

fn random(rng: &mut StdRng, len: usize) -> Vec<f64> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn inputs(problem: &Problem, gamma: bool, rng: &mut StdRng) -> Inputs {
    let Problem {
        batch,
        query_len,
        key_len,
        heads,
        kv_heads,
        head_dim,
        value_dim,
        maps,
        ..
    } = *problem;
    let rows = batch * query_len * heads;
    let keys = batch * key_len * kv_heads;
    Inputs {
        query: random(rng, rows * maps * head_dim),
        key: random(rng, keys * problem.key_maps() * head_dim),
        value: random(rng, keys * value_dim),
        lambda: random(rng, rows * (maps - 1)),
        gamma: gamma.then(|| random(rng, value_dim)),
    }
}

fn loss(problem: &Problem, inputs: &Inputs, grad_output: &[f64]) -> f64 {
    let output = reference::forward(problem, inputs).unwrap().output;
    output.iter().zip(grad_output).map(|(y, dy)| y * dy).sum()
}

/// `(f(x + h) − f(x − h)) / 2h` for every element of one input.
fn central_differences(
    problem: &Problem,
    inputs: &Inputs,
    grad_output: &[f64],
    input: Input,
) -> Vec<f64> {
    let step = 1e-5;
    let mut moved = inputs.clone();
    let len = input.of(&mut moved).len();
    let slope = |at: usize| {
        let value = input.of(&mut moved)[at];
        input.of(&mut moved)[at] = value + step;
        let above = loss(problem, &moved, grad_output);
        input.of(&mut moved)[at] = value - step;
        let below = loss(problem, &moved, grad_output);
        input.of(&mut moved)[at] = value;
        (above - below) / (2.0 * step)
    };
    (0..len).map(slope).collect()
}

fn check_gradients(problem: &Problem, gamma: bool, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let inputs = inputs(problem, gamma, &mut rng);
    let grad_output = random(
        &mut rng,
        problem.batch * problem.query_len * problem.heads * problem.value_dim,
    );
    let gradients = reference::backward(problem, &inputs, &grad_output).unwrap();
    for input in INPUTS {
        let numeric = central_differences(problem, &inputs, &grad_output, input);
        assert_relative_eq!(
            input.gradient(&gradients),
            &numeric[..],
            epsilon = 1e-8,
            max_relative = 1e-6
        );
    }
}

fn check_all_gradients(maps: usize, norm: NormKind) {
    let mut seed = 0;
    for mask in MASKS {
        for heads in HEADS
            .into_iter()
            .filter(|(.., shared)| maps == 2 || !shared)
        {
            for lengths in LENGTHS {
                let norm_of = Norm {
                    eps: 0.01,
                    lambda_init: 0.4,
                };
                let norm_of = (norm != NormKind::None).then_some(norm_of);
                let problem = problem(maps, mask, heads, lengths).with_norm(norm_of);
                check_gradients(&problem, norm == NormKind::Weighted, seed);
                seed += 1;
            }
        }
    }
    assert_eq!(seed, if maps == 2 { 40 } else { 30 });
}

#[test]
fn gradients_without_norm() {
    check_all_gradients(2, NormKind::None);
}

#[test]
fn gradients_with_norm() {
    check_all_gradients(2, NormKind::Plain);
}

#[test]
fn gradients_with_weighted_norm() {
    check_all_gradients(2, NormKind::Weighted);
}

#[test]
fn gradients_of_standard_attention() {
    for norm in [NormKind::None, NormKind::Plain, NormKind::Weighted] {
        check_all_gradients(1, norm);
    }
}

#[test]
fn gradients_of_a_batch() {
    let norm = Some(Norm {
        eps: 0.01,
        lambda_init: 0.2,
    });
    let problem = problem(2, Mask::Causal, HEADS[1], LENGTHS[0])
        .with_batch(2)
        .with_norm(norm);
    check_gradients(&problem, true, 7);
}

/// `P_1 V − λ P_2 V` of one query head, from its attention maps.
fn output_from_maps(problem: &Problem, inputs: &Inputs, batch: usize, head: usize) -> Vec<f64> {
    let map = |map| reference::attention_map(problem, inputs, batch, head, map).unwrap();
    let maps: Vec<_> = (0..problem.maps).map(map).collect();
    let element = |query: usize, channel: usize| -> f64 {
        let row = (batch * problem.query_len + query) * problem.heads + head;
        let weight = |map| if map == 0 { 1.0 } else { -inputs.lambda[row] };
        let key_value = |key: usize| {
            let row = (batch * problem.key_len + key) * problem.kv_heads + head / problem.group();
            let p: f64 = (0..problem.maps)
                .map(|m| weight(m) * maps[m][query * problem.key_len + key])
                .sum();
            p * inputs.value[row * problem.value_dim + channel]
        };
        (0..problem.key_len).map(key_value).sum()
    };
    let queries = 0..problem.query_len;
    queries
        .flat_map(|query| (0..problem.value_dim).map(move |c| (query, c)))
        .map(|(q, c)| element(q, c))
        .collect()
}

#[test]
fn forward_is_the_difference_of_its_maps() {
    let mut rng = StdRng::seed_from_u64(3);
    for (maps, heads) in [(1, HEADS[1]), (2, HEADS[0]), (2, HEADS[1]), (2, HEADS[3])] {
        for (mask, lengths) in MASKS
            .into_iter()
            .flat_map(|mask| LENGTHS.map(|lengths| (mask, lengths)))
        {
            let problem = problem(maps, mask, heads, lengths).with_batch(2);
            let inputs = inputs(&problem, false, &mut rng);
            let output = reference::forward(&problem, &inputs).unwrap().unnormalized;
            for (batch, head) in
                (0..2).flat_map(|batch| (0..problem.heads).map(move |head| (batch, head)))
            {
                let rows = (0..problem.query_len)
                    .map(|i| (batch * problem.query_len + i) * problem.heads + head);
                let ours: Vec<f64> = rows
                    .flat_map(|row| &output[row * 5..][..5])
                    .copied()
                    .collect();
                assert_relative_eq!(
                    &ours[..],
                    &output_from_maps(&problem, &inputs, batch, head)[..],
                    epsilon = 1e-14
                );
            }
        }
    }
}

#[test]
fn map_rows_are_distributions_over_visible_keys() {
    let mut rng = StdRng::seed_from_u64(4);
    for (mask, lengths) in MASKS
        .into_iter()
        .flat_map(|mask| LENGTHS.map(|lengths| (mask, lengths)))
    {
        let problem = problem(2, mask, HEADS[1], lengths);
        let map = reference::attention_map(&problem, &inputs(&problem, false, &mut rng), 0, 3, 1)
            .unwrap();
        for (query, row) in map.chunks(lengths.1).enumerate() {
            let visible = mask.visible(query, lengths.0, lengths.1);
            let sum = if visible.is_empty() { 0.0 } else { 1.0 };
            assert_relative_eq!(row.iter().sum::<f64>(), sum, epsilon = 1e-14);
            assert!(
                row.iter()
                    .enumerate()
                    .all(|(key, p)| (*p > 0.0) == visible.contains(&key))
            );
        }
    }
}

/// With `LSE` and the scores, `exp(S − LSE)` must be the map again.
#[test]
fn log_sum_exp_belongs_to_the_scores() {
    let problem = problem(2, Mask::Causal, (1, 1, false), (5, 3));
    let inputs = inputs(&problem, false, &mut StdRng::seed_from_u64(5));
    let lse = reference::forward(&problem, &inputs).unwrap().lse;
    for map in 0..2 {
        let p = reference::attention_map(&problem, &inputs, 0, 0, map).unwrap();
        for query in 0..5 {
            let line = lse[map * 5 + query];
            assert_eq!(query < 2, line == f64::NEG_INFINITY);
            for key in problem.mask.visible(query, 5, 3) {
                let (q, k) = (
                    &inputs.query[(query * 2 + map) * 3..],
                    &inputs.key[(key * 2 + map) * 3..],
                );
                let score: f64 =
                    (0..3).map(|c| q[c] * k[c]).sum::<f64>() * f64::from(problem.scale);
                assert_relative_eq!(
                    (score - line).exp(),
                    p[query * 3 + key],
                    max_relative = 1e-12
                );
            }
        }
    }
}

#[test]
fn rows_without_a_key_are_zero_and_pass_nothing_back() {
    let norm = Some(Norm {
        eps: 1e-5,
        lambda_init: 0.4,
    });
    for mask in [
        Mask::Causal,
        Mask::Window {
            left: Some(0),
            right: Some(0),
        },
    ] {
        let problem = problem(2, mask, HEADS[0], (5, 3)).with_norm(norm);
        let mut rng = StdRng::seed_from_u64(6);
        let inputs = inputs(&problem, true, &mut rng);
        let blind = 2 * problem.heads; // the first two of five queries stand before the first of three keys
        let mut grad_output = random(&mut rng, 5 * problem.heads * 5);
        let forward = reference::forward(&problem, &inputs).unwrap();
        for values in [
            &forward.output,
            &forward.unnormalized,
            &forward.noise_output,
        ] {
            assert!(values[..blind * 5].iter().all(|x| *x == 0.0));
            assert!(
                values[blind * 5..]
                    .iter()
                    .all(|x| x.is_finite() && *x != 0.0)
            );
        }
        assert_eq!(
            forward
                .lse
                .iter()
                .filter(|lse| **lse == f64::NEG_INFINITY)
                .count(),
            2 * blind
        );
        let gradients = reference::backward(&problem, &inputs, &grad_output).unwrap();
        assert!(
            gradients.query[..blind * 2 * 3]
                .iter()
                .chain(&gradients.lambda[..blind])
                .all(|x| *x == 0.0)
        );
        grad_output[..blind * 5].fill(0.0);
        assert_eq!(
            reference::backward(&problem, &inputs, &grad_output).unwrap(),
            gradients
        );
    }
}

#[test]
fn visible_keys_are_those_of_the_definition() {
    let sides = [None, Some(0), Some(1), Some(3), Some(usize::MAX)];
    let windows = sides
        .into_iter()
        .flat_map(|left| sides.map(|right| Mask::Window { left, right }));
    for mask in [Mask::None, Mask::Causal].into_iter().chain(windows) {
        let sees = |distance: i128| match mask {
            Mask::None => true,
            Mask::Causal => distance <= 0,
            Mask::Window { left, right } => {
                left.is_none_or(|left| -distance <= left as i128)
                    && right.is_none_or(|right| distance <= right as i128)
            }
        };
        for (query_len, key_len) in (1..8).flat_map(|n| (1..8).map(move |m| (n, m))) {
            for query in 0..query_len {
                let position = query as i128 + key_len as i128 - query_len as i128;
                let expected: Vec<usize> = (0..key_len)
                    .filter(|key| sees(*key as i128 - position))
                    .collect();
                let visible: Vec<usize> = mask.visible(query, query_len, key_len).collect();
                assert_eq!(
                    visible, expected,
                    "{mask:?}, query {query} of {query_len}, {key_len} keys"
                );
            }
        }
    }
}

#[test]
fn shared_lambda_gradient_sums_what_expand_repeats() {
    let full = [2, 3, 4];
    let mut rng = StdRng::seed_from_u64(8);
    for shape in [
        &[][..],
        &[1],
        &[4],
        &[3, 1],
        &[3, 4],
        &[2, 1, 1],
        &[1, 3, 1],
        &[2, 1, 4],
        &[2, 3, 4],
    ] {
        let values = random(&mut rng, shape.iter().product());
        let gradient = random(&mut rng, 24);
        // <expand(x), g> = <x, reduce(g)>: one is the transpose of the other.
        let expanded = reference::expand(&values, shape, full).unwrap();
        let reduced = reference::reduce_to(&gradient, full, shape).unwrap();
        let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
        assert_relative_eq!(
            dot(&expanded, &gradient),
            dot(&values, &reduced),
            max_relative = 1e-12
        );
    }
    assert_eq!(
        reference::expand(&[1.0, 2.0, 3.0], &[3, 1], [1, 3, 2]).unwrap(),
        [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    );
    assert!(matches!(
        reference::expand(&[0.0; 2], &[2], full),
        Err(Error::Size {
            axis: "head",
            got: 2,
            ..
        })
    ));
    assert!(matches!(
        reference::expand(&[0.0], &[1; 4], full),
        Err(Error::Rank { got: 4, .. })
    ));
    assert!(matches!(
        reference::reduce_to(&[0.0; 7], full, &[1]),
        Err(Error::Length { got: 7, .. })
    ));
}

#[test]
fn lambda_gradient_is_the_slope_of_lambda() {
    let mut rng = StdRng::seed_from_u64(9);
    let vectors: [Vec<f64>; 4] = std::array::from_fn(|_| random(&mut rng, 7));
    let borrow = |[q1, k1, q2, k2]: &[Vec<f64>; 4]| -> f64 {
        reference::lambda(&LambdaVectors { q1, k1, q2, k2 }, 0.3).unwrap()
    };
    let [q1, k1, q2, k2] = &vectors;
    let gradient = reference::lambda_gradient(&LambdaVectors { q1, k1, q2, k2 }, -1.5).unwrap();
    for (which, slope) in [gradient.q1, gradient.k1, gradient.q2, gradient.k2]
        .iter()
        .enumerate()
    {
        for (at, slope) in slope.iter().enumerate() {
            let moved = |step: f64| {
                let mut vectors = vectors.clone();
                vectors[which][at] += step;
                borrow(&vectors)
            };
            assert_relative_eq!(
                -1.5 * (moved(1e-5) - moved(-1e-5)) / 2e-5,
                *slope,
                max_relative = 1e-7
            );
        }
    }
}

#[test]
fn host_lambda_rounds_the_reference() {
    let vectors = LambdaVectors {
        q1: &[0.5_f32, -0.25],
        k1: &[1.0, 0.5],
        q2: &[0.75, 2.0],
        k2: &[-0.5, 0.25],
    };
    let wide = LambdaVectors {
        q1: &[0.5, -0.25],
        k1: &[1.0, 0.5],
        q2: &[0.75, 2.0],
        k2: &[-0.5, 0.25],
    };
    let expected = (0.5_f64 - 0.125).exp() - (-0.375_f64 + 0.5).exp() + 0.5;
    assert_relative_eq!(
        reference::lambda(&wide, 0.5).unwrap(),
        expected,
        max_relative = 1e-15
    );
    assert_eq!(lambda(&vectors, 0.5).unwrap(), expected as f32);
    let (ours, theirs) = (
        lambda_gradient(&vectors, 2.0).unwrap(),
        reference::lambda_gradient(&wide, 2.0).unwrap(),
    );
    for (ours, theirs) in [
        (ours.q1, theirs.q1),
        (ours.k1, theirs.k1),
        (ours.q2, theirs.q2),
        (ours.k2, theirs.k2),
    ] {
        assert_eq!(ours, theirs.iter().map(|x| *x as f32).collect::<Vec<_>>());
    }
    let short = LambdaVectors {
        q2: &[1.0],
        ..vectors
    };
    let error = Error::Size {
        tensor: "lambda_q2",
        axis: "dim",
        got: 1,
        expected: 2,
        shape: vec![1],
    };
    assert_eq!(lambda(&short, 0.5), Err(error.clone()));
    assert_eq!(lambda_gradient(&short, 0.5), Err(error));
}

#[test]
fn inputs_of_other_sizes_are_refused() {
    let problem = problem(2, Mask::None, HEADS[1], (3, 5));
    let good = inputs(&problem, false, &mut StdRng::seed_from_u64(10));
    let refuse = |problem: Problem, change: &dyn Fn(&mut Inputs)| {
        let mut inputs = good.clone();
        change(&mut inputs);
        reference::forward(&problem, &inputs).unwrap_err()
    };
    for input in [Input::Query, Input::Key, Input::Value] {
        let shorter = |inputs: &mut Inputs| match input {
            Input::Query => drop(inputs.query.pop()),
            Input::Key => drop(inputs.key.pop()),
            _ => drop(inputs.value.pop()),
        };
        assert!(matches!(refuse(problem, &shorter), Error::Length { .. }));
    }
    assert!(matches!(
        refuse(problem, &|inputs| inputs.lambda.clear()),
        Error::Length {
            got: 0,
            expected: 12,
            ..
        }
    ));
    let gamma = |inputs: &mut Inputs| inputs.gamma = Some(vec![1.0; 5]);
    assert!(matches!(
        refuse(problem, &gamma),
        Error::Presence {
            tensor: "gamma",
            ..
        }
    ));
    let uneven = problem.with_heads([problem.heads, 3]);
    assert!(matches!(
        refuse(uneven, &|_| ()),
        Error::HeadGroup {
            heads: 4,
            kv_heads: 3
        }
    ));
    assert!(matches!(
        refuse(problem.with_heads([problem.heads, 0]), &|_| ()),
        Error::Empty {
            tensor: "key",
            axis: "head",
            ..
        }
    ));
    assert!(matches!(
        refuse(problem.with_maps(3), &|_| ()),
        Error::Size {
            axis: "map",
            got: 3,
            ..
        }
    ));
    assert!(matches!(
        reference::backward(&problem, &good, &[0.0]),
        Err(Error::Length { got: 1, .. })
    ));
    assert!(matches!(
        reference::attention_map(&problem, &good, 0, 4, 0),
        Err(Error::Size { axis: "head", .. })
    ));
}
