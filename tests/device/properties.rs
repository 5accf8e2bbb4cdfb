//! Whatever the sizes, strides, mask, groups of heads and shape of λ: every element is as exact as `f32` allows.

use checks::cases::Case;
use checks::device::{Results, client, run_inputs, stored, tensors};
use checks::rounding::Rounding;
use cubecl::prelude::Client;
use diff_flash_attn::{DType, Inputs, Mask, Norm, Problem, Tensor, Tuning};
use proptest::prelude::*;

/// One pair of head dimensions, so that kernels are compiled for masks, maps and alignment only.
const DIMS: (usize, usize) = (8, 16);

/// Where a tensor lies in its buffer.
#[derive(Debug, Clone)]
struct Place {
    /// Axes but the last, outermost in memory first.
    order: Vec<usize>,
    /// Elements left free after each of these axes.
    gaps: Vec<usize>,
    offset: usize,
}

impl Place {
    /// Any order of the outer axes of a tensor of `rank` axes; gaps and offset are multiples of `align`.
    fn any(rank: usize, align: usize) -> impl Strategy<Value = Place> {
        let order = Just((0..rank - 1).collect::<Vec<_>>()).prop_shuffle();
        let gaps = prop::collection::vec((0..3usize).prop_map(move |n| n * align), rank - 1);
        let offset = (0..4usize).prop_map(move |n| n * align);
        (order, gaps, offset).prop_map(|(order, gaps, offset)| Place {
            order,
            gaps,
            offset,
        })
    }

    /// Uploads row-major `values` there; everything between them is NaN.
    fn upload(&self, client: &Client, values: &[f32], shape: &[usize]) -> Tensor {
        let mut strides = vec![1; shape.len()];
        let mut extent = shape[shape.len() - 1];
        for (&axis, gap) in self.order.iter().zip(&self.gaps).rev() {
            strides[axis] = extent + gap;
            extent = strides[axis] * shape[axis];
        }
        let mut buffer = vec![f32::NAN; self.offset + extent];
        for (linear, value) in values.iter().enumerate() {
            let (mut rest, mut at) = (linear, self.offset);
            for (n, stride) in shape.iter().zip(&strides).rev() {
                at += rest % n * stride;
                rest /= n;
            }
            buffer[at] = *value;
        }
        let whole = Tensor::from_f32(client, DType::F32, &[buffer.len()], &buffer).unwrap();
        Tensor::strided(
            whole.handle().clone(),
            DType::F32,
            self.offset,
            shape,
            &strides,
        )
    }
}

/// A case and where its tensors lie.
#[derive(Debug, Clone)]
struct Drawn {
    problem: Problem,
    lambda_shape: Vec<usize>,
    seed: u64,
    /// Of query, key, value.
    places: [Place; 3],
}

impl Drawn {
    fn any() -> impl Strategy<Value = Drawn> {
        let sizes = (1..=2usize, 1..=70usize, 1..=70usize, 1..=2usize, 1..=3usize);
        (sizes, 1..=2usize, any::<bool>()).prop_flat_map(
            |((batch, query_len, key_len, kv_heads, group), maps, aligned)| {
                let align = if aligned { 4 } else { 1 };
                let shared = if maps == 2 {
                    prop_oneof![3 => Just(false), 1 => Just(true)].boxed()
                } else {
                    Just(false).boxed()
                };
                let window = (0..key_len, 0..key_len).prop_map(|(l, r)| Mask::Window {
                    left: Some(l),
                    right: Some(r),
                });
                let mask = prop_oneof![Just(Mask::None), window];
                let (rank, key_rank) = (3 + maps, 3 + maps);
                let places = (
                    Place::any(rank, align),
                    Place::any(key_rank, align),
                    Place::any(4, align),
                );
                let broadcast = (0..=3usize, prop::array::uniform3(any::<bool>()));
                (mask, shared, places, broadcast, any::<u64>()).prop_map(
                    move |(mask, shared_key, places, broadcast, seed)| {
                        let heads = kv_heads * group;
                        let (given, full) = broadcast;
                        let rows = [batch, query_len, heads];
                        let lambda_shape = (3 - given..3)
                            .map(|i| if full[i] { rows[i] } else { 1 })
                            .collect();
                        let problem = Problem::new(
                            maps,
                            [batch, query_len, key_len],
                            [heads, kv_heads],
                            [DIMS.0, DIMS.1],
                        )
                        .with_shared_key(shared_key)
                        .with_mask(mask)
                        .with_scale(0.4)
                        .with_norm((maps == 2).then_some(Norm {
                            eps: 1e-5,
                            lambda_init: 0.2,
                        }));
                        Drawn {
                            problem,
                            lambda_shape,
                            seed,
                            places: places.into(),
                        }
                    },
                )
            },
        )
    }

    fn case(&self) -> Case {
        Case::random(
            self.problem,
            &self.lambda_shape,
            self.problem.norm.is_some(),
            self.seed,
        )
    }

    fn inputs(&self, client: &Client, case: &Case) -> Inputs {
        let [query, key, value] = &self.places;
        let single = |values: &[f32], shape: &[usize]| {
            Tensor::from_f32(client, DType::F32, shape, values).unwrap()
        };
        let lambda = (self.problem.maps == 2).then(|| single(&case.lambda, &case.lambda_shape));
        let gamma = case
            .gamma
            .as_ref()
            .map(|gamma| single(gamma, &[gamma.len()]));
        let (query, key, value) = (
            query.upload(client, &case.query, &case.query_shape()),
            key.upload(client, &case.key, &case.key_shape()),
            value.upload(client, &case.value, &case.value_shape()),
        );
        Inputs::standard(query, key, value)
            .with_lambda(lambda)
            .with_gamma(gamma)
    }
}

/// Compares every element.
fn check(case: &Case, ours: &Results) -> Result<(), TestCaseError> {
    let (exact, grad) = (case.forward(), case.backward());
    let cost = Rounding::of(case, &exact);
    let (exact, cost) = (
        tensors(&exact, &grad),
        tensors(&cost.forward, &cost.backward),
    );
    for (((name, exact), (_, cost)), (_, ours)) in
        exact.into_iter().zip(cost).zip(stored(case, ours))
    {
        prop_assert_eq!(ours.len(), exact.len(), "{}", name);
        for (i, ((&ours, &exact), &cost)) in ours.iter().zip(exact).zip(cost).enumerate() {
            let ours = f64::from(ours);
            let good = ours == exact || (ours - exact).abs() <= cost;
            prop_assert!(good, "{name}[{i}] is {ours}, expected {exact} ± {cost:.1e}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_element_is_as_exact_as_f32_allows(drawn in Drawn::any()) {
        let (client, case) = (client(), drawn.case());
        let ours = run_inputs(&client, &case, &drawn.inputs(&client, &case), Tuning::default());
        check(&case, &ours)?;
    }
}
