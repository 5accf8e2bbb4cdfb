//! Plans and calls agree: what is planned is launched and nothing else, and what is refused launches nothing.

use checks::catalogue::{Entry, entries};
use cuda_device::{Arch, Recorder};
use diff_flash_attn::device::Device;
use diff_flash_attn::lambda::{LambdaTensors, lambda_gradient_on_device, lambda_on_device};
use diff_flash_attn::tuning::{Family, Pass, Plane, PortableSettings, candidates};
use diff_flash_attn::{
    Bindings, Client, DType, Error, Gradients, Inputs, Mask, Norm, Options, Plan, Problem, Saved,
    Tensor, Tuning, backward, backward_into, forward, forward_into, plan_backward,
    plan_backward_into, plan_forward, plan_forward_into,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, seq::IndexedRandom};

/// Everything a call is given.
#[derive(Clone)]
struct Call {
    inputs: Inputs,
    options: Options,
    output: Tensor,
    saved: Saved,
    grad_output: Tensor,
    gradients: Gradients,
}

impl Call {
    /// Row-major tensors for a problem.
    fn new(client: &Client, problem: Problem, tuning: Tuning) -> Self {
        let entry = Entry {
            problem,
            token_lambda: false,
            offset: 0,
            family: Family::Portable,
        };
        let p = &problem;
        let inputs = entry.inputs(client);
        let single = |shape: &[usize]| Tensor::empty(client, DType::F32, shape);
        let stored = |shape: &[usize]| Tensor::empty(client, p.dtype, shape);
        let output = [p.batch, p.query_len, p.heads, p.value_dim];
        let outputs = [p.batch, p.query_len, p.heads, p.maps, p.value_dim];
        let lambda = inputs.lambda.as_ref().map(|it| single(it.shape()));
        let gamma = inputs.gamma.as_ref().map(|it| single(it.shape()));
        let like = |tensor: &Tensor| stored(tensor.shape());
        let gradients = Gradients::new(like(&inputs.query), like(&inputs.key), like(&inputs.value));
        Self {
            options: entry
                .options()
                .with_save_for_backward(true)
                .with_tuning(tuning),
            output: stored(&output),
            saved: Saved::new(
                stored(&outputs),
                single(&[p.batch, p.heads, p.maps, p.query_len]),
            ),
            grad_output: stored(&output),
            gradients: gradients.with_lambda(lambda).with_gamma(gamma),
            inputs,
        }
    }

    fn plan_forward(&self, client: &Client) -> Result<Plan, Error> {
        plan_forward_into(
            client,
            &self.inputs,
            &self.options,
            &self.output,
            Some(&self.saved),
        )
    }

    fn forward(&self, client: &Client) -> Result<(), Error> {
        forward_into(
            client,
            &self.inputs,
            &self.options,
            &self.output,
            Some(&self.saved),
        )
    }

    fn plan_backward(&self, client: &Client) -> Result<Plan, Error> {
        let Self {
            inputs,
            saved,
            grad_output,
            options,
            gradients,
            ..
        } = self;
        plan_backward_into(client, inputs, saved, grad_output, options, gradients)
    }

    fn backward(&self, client: &Client) -> Result<(), Error> {
        let Self {
            inputs,
            saved,
            grad_output,
            options,
            gradients,
            ..
        } = self;
        backward_into(client, inputs, saved, grad_output, options, gradients)
    }
}

/// The call launches what its plan says, or is refused as its plan is, with nothing launched.
fn agree(recorder: &Recorder, planned: Result<Plan, Error>, called: Result<(), Error>) -> bool {
    let launched = recorder.take().unwrap();
    let names: Vec<_> = launched
        .iter()
        .map(|kernel| camel(kernel.id().short_name()))
        .collect();
    match (planned, called) {
        (Ok(plan), Ok(())) => {
            let steps: Vec<_> = plan.describe().iter().map(|step| step.kernel).collect();
            assert_eq!(names, steps);
            true
        }
        (Err(planned), Err(called)) => {
            assert_eq!(planned, called);
            assert!(names.is_empty(), "{called}: launched {names:?}");
            false
        }
        (planned, called) => panic!("planned: {planned:?}\ncalled: {called:?}"),
    }
}

/// `AttentionForward` as `attention_forward`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn pick(rng: &mut StdRng, from: &[usize]) -> usize {
    *from.choose(rng).unwrap()
}

/// A problem, and settings for some of its passes: feasible ones, or any at all.
fn random(device: &Device, rng: &mut StdRng) -> (Problem, Tuning) {
    let dims = [8, 16, 24, 64, 96, 128, 192, 256];
    let maps = pick(rng, &[1, 2, 2]);
    let sequences = [
        pick(rng, &[1, 3]),
        pick(rng, &[1, 77, 300]),
        pick(rng, &[1, 64, 513]),
    ];
    let heads = [[1, 1], [4, 2], [6, 1]][pick(rng, &[0, 1, 2])];
    let mut problem = Problem::new(maps, sequences, heads, [pick(rng, &dims), pick(rng, &dims)]);
    problem.shared_key = maps == 2 && pick(rng, &[0, 1]) == 1;
    problem.dtype = [DType::F32, DType::F16, DType::BF16][pick(rng, &[0, 1, 2])];
    problem.mask = match pick(rng, &[0, 1, 2]) {
        0 => Mask::None,
        1 => Mask::Causal,
        _ => Mask::Window {
            left: Some(pick(rng, &[0, 40])),
            right: None,
        },
    };
    problem.norm = (pick(rng, &[0, 1]) == 1).then_some(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    });
    if pick(rng, &[0, 0, 0, 1]) == 1 {
        problem.scale = 1e8;
    }
    let mut tuning = match pick(rng, &[0, 1, 2, 3]) {
        0 => Tuning::of(Family::Portable),
        1 => Tuning::of(Family::Hopper),
        _ => Tuning::default(),
    };
    for pass in [Pass::Forward, Pass::QueryGradient, Pass::KeyValueGradient] {
        match pick(rng, &[0, 0, 1, 2]) {
            1 => tuning = tuning.with(pass, any_settings(rng)),
            2 => {
                let feasible = candidates(pass, &problem, device);
                tuning = tuning.with(pass, *feasible.choose(rng).unwrap());
            }
            _ => (),
        }
    }
    (problem, tuning)
}

fn any_settings(rng: &mut StdRng) -> PortableSettings {
    let mut up_to = |most: usize| rng.random_range(0..=most);
    let sizes = [
        up_to(9),
        4 * up_to(5),
        up_to(40),
        1 << up_to(5),
        8 * up_to(9),
    ];
    let plane = [Plane::Unused, Plane::Reduce, Plane::Broadcast][up_to(2)];
    PortableSettings::new(sizes, plane)
}

#[test]
fn what_is_planned_runs_and_what_runs_is_planned() {
    let rng = &mut StdRng::seed_from_u64(11);
    for arch in Arch::ALL {
        let recorder = Recorder::new(arch).unwrap();
        let client = recorder.client();
        let device = Device::of(client);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..200 {
            let (problem, tuning) = random(&device, rng);
            let call = Call::new(client, problem, tuning);
            for agreed in [
                agree(&recorder, call.plan_forward(client), call.forward(client)),
                agree(&recorder, call.plan_backward(client), call.backward(client)),
            ] {
                *if agreed { &mut taken } else { &mut refused } += 1;
            }
        }
        println!("{arch}: {taken} taken, {refused} refused");
        assert!(
            taken > 50 && refused > 50,
            "{arch}: {taken} taken, {refused} refused"
        );
    }
}

#[test]
fn candidates_can_be_launched() {
    for arch in Arch::ALL {
        let recorder = Recorder::new(arch).unwrap();
        let client = recorder.client();
        let device = Device::of(client);
        for pass in [Pass::Forward, Pass::QueryGradient, Pass::KeyValueGradient] {
            let problem =
                Problem::differential([1, 300, 300], [2, 1], [64, 128]).with_dtype(DType::BF16);
            let feasible = candidates(pass, &problem, &device);
            assert!(feasible.len() > 100, "{arch} {pass}: {}", feasible.len());
            for settings in feasible.iter().step_by(feasible.len() / 40) {
                let call = Call::new(client, problem, Tuning::default().with(pass, *settings));
                let planned = match pass {
                    Pass::Forward => call.plan_forward(client),
                    _ => call.plan_backward(client),
                };
                planned.unwrap_or_else(|error| panic!("{arch} {pass} {settings}: {error}"));
            }
        }
    }
}

/// What makes a good call bad, and a part of what is said of it.
type Bad = (&'static str, fn(&Client, &mut Call));

fn empty(client: &Client, shape: &[usize]) -> Tensor {
    Tensor::empty(client, DType::F32, shape)
}

fn repeated(client: &Client, shape: &[usize]) -> Tensor {
    let strides: Vec<_> = (1..=shape.len())
        .map(|i| usize::from(i == shape.len()))
        .collect();
    let buffer = empty(client, &[1024]);
    Tensor::strided(buffer.handle().clone(), DType::F32, 0, shape, &strides)
}

/// Refused forward and backward.
const BOTH: &[Bad] = &[
    ("query: has 4 axes", |c, it| {
        it.inputs.query = empty(c, &[1, 9, 2, 64])
    }),
    ("query: axis pair is 3", |c, it| {
        it.inputs.query = empty(c, &[1, 9, 2, 3, 64])
    }),
    ("query: axis seq is empty", |c, it| {
        it.inputs.query = empty(c, &[1, 0, 2, 2, 64])
    }),
    ("query: head dimension is 12", |c, it| {
        it.inputs.query = empty(c, &[1, 9, 2, 2, 12])
    }),
    ("query: has 3 heads", |c, it| {
        it.inputs.query = empty(c, &[1, 9, 3, 2, 64])
    }),
    ("key: axis batch is 2", |c, it| {
        it.inputs.key = empty(c, &[2, 7, 2, 2, 64])
    }),
    ("key: is stored as f16", |c, it| {
        it.inputs.key = Tensor::empty(c, DType::F16, &[1, 7, 2, 2, 64])
    }),
    ("value: axis seq is 6", |c, it| {
        it.inputs.value = empty(c, &[1, 6, 2, 128])
    }),
    ("lambda: axis head is 3", |c, it| {
        it.inputs.lambda = Some(empty(c, &[3]))
    }),
    ("lambda: is stored as bf16", |c, it| {
        it.inputs.lambda = Some(Tensor::empty(c, DType::BF16, &[2]))
    }),
    ("gamma: axis dim is 8", |c, it| {
        it.inputs.gamma = Some(empty(c, &[8]))
    }),
    ("gamma: given, but the options have no norm", |_, it| {
        it.options.norm = None
    }),
    ("scale is inf", |_, it| {
        it.options.scale = Some(f32::INFINITY)
    }),
    ("norm eps is -1", |_, it| {
        it.options.norm = Some(Norm {
            eps: -1.0,
            lambda_init: 0.2,
        })
    }),
    ("query: reaches element", |_, it| {
        let handle = it.inputs.key.handle().clone();
        it.inputs.query = Tensor::strided(
            handle,
            DType::F32,
            5000,
            &[1, 9, 2, 2, 64],
            &[2304, 256, 128, 64, 1],
        );
    }),
    ("query: the last axis has stride 2", |c, it| {
        let handle = empty(c, &[8192]).handle().clone();
        it.inputs.query = Tensor::strided(
            handle,
            DType::F32,
            0,
            &[1, 9, 2, 2, 64],
            &[4096, 256, 128, 64, 2],
        );
    }),
    ("query: has 4 strides for 5 axes", |c, it| {
        let handle = empty(c, &[8192]).handle().clone();
        it.inputs.query = Tensor::strided(
            handle,
            DType::F32,
            0,
            &[1, 9, 2, 2, 64],
            &[2304, 256, 128, 64],
        );
    }),
    ("more than the", |c, it| {
        it.inputs.query = repeated(c, &[1, 1 << 40, 2, 2, 64])
    }),
    ("saved outputs: axis map is 1", |c, it| {
        it.saved.outputs = empty(c, &[1, 9, 2, 1, 128])
    }),
    ("saved lse: axis map is 1", |c, it| {
        it.saved.lse = empty(c, &[1, 2, 1, 9])
    }),
    ("saved lse: is stored as f16", |c, it| {
        it.saved.lse = Tensor::empty(c, DType::F16, &[1, 2, 2, 9])
    }),
    ("given together with the family hopper", |_, it| {
        let settings = PortableSettings::new([1, 4, 8, 8, 32], Plane::Unused);
        it.options.tuning = Tuning::of(Family::Hopper)
            .with(Pass::Forward, settings)
            .with(Pass::QueryGradient, settings);
    }),
    ("cols is no multiple of 4", |_, it| {
        let settings = PortableSettings::new([1, 6, 8, 8, 32], Plane::Unused);
        let tuning = Tuning::default().with(Pass::Forward, settings);
        it.options.tuning = tuning.with(Pass::KeyValueGradient, settings);
    }),
    ("units of a cube: 8192 needed", |_, it| {
        let settings = PortableSettings::new([1, 4, 1024, 8, 32], Plane::Unused);
        let tuning = Tuning::default().with(Pass::Forward, settings);
        it.options.tuning = tuning.with(Pass::KeyValueGradient, settings);
    }),
    ("bytes of shared memory", |_, it| {
        let settings = PortableSettings::new([1000, 4, 8, 8, 32], Plane::Unused);
        let tuning = Tuning::default().with(Pass::Forward, settings);
        it.options.tuning = tuning.with(Pass::QueryGradient, settings);
    }),
];

/// Refused forward alone.
const FORWARD: &[Bad] = &[
    ("output: axis dim is 64", |c, it| {
        it.output = empty(c, &[1, 9, 2, 64])
    }),
    ("output: is stored as f16", |c, it| {
        it.output = Tensor::empty(c, DType::F16, &[1, 9, 2, 128])
    }),
    ("output: is written, but its axes overlap", |c, it| {
        it.output = repeated(c, &[1, 9, 2, 128])
    }),
    ("saved outputs: is written", |c, it| {
        it.saved.outputs = repeated(c, &[1, 9, 2, 2, 128])
    }),
    ("needs CUDA on compute capability 9.0", |_, it| {
        it.options.tuning = Tuning::of(Family::Hopper)
    }),
];

/// Refused backward alone.
const BACKWARD: &[Bad] = &[
    ("gradient of output: axis seq is 4", |c, it| {
        it.grad_output = empty(c, &[1, 4, 2, 128])
    }),
    ("gradient of query: axis seq is 4", |c, it| {
        it.gradients.query = empty(c, &[1, 4, 2, 2, 64])
    }),
    ("gradient of key: is written", |c, it| {
        it.gradients.key = repeated(c, &[1, 7, 2, 2, 64])
    }),
    ("gradient of value: is stored as f16", |c, it| {
        it.gradients.value = Tensor::empty(c, DType::F16, &[1, 7, 2, 128]);
    }),
    ("gradient of lambda: missing", |_, it| {
        it.gradients.lambda = None
    }),
    ("gradient of gamma: axis dim is 8", |c, it| {
        it.gradients.gamma = Some(empty(c, &[8]))
    }),
];

#[test]
fn nothing_is_launched_where_anything_is_refused() {
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    let problem = Problem::differential([1, 9, 7], [2, 2], [64, 128]).with_norm(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    });
    let good = Call::new(client, problem, Tuning::default());
    assert!(agree(
        &recorder,
        good.plan_forward(client),
        good.forward(client)
    ));
    assert!(agree(
        &recorder,
        good.plan_backward(client),
        good.backward(client)
    ));
    let bad = |change: fn(&Client, &mut Call)| {
        let mut call = good.clone();
        change(client, &mut call);
        call
    };
    for (expected, change) in BOTH.iter().chain(FORWARD) {
        let call = bad(*change);
        let said = call.plan_forward(client).unwrap_err().to_string();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!agree(
            &recorder,
            call.plan_forward(client),
            call.forward(client)
        ));
    }
    for (expected, change) in BOTH.iter().chain(BACKWARD) {
        let call = bad(*change);
        let said = call.plan_backward(client).unwrap_err().to_string();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!agree(
            &recorder,
            call.plan_backward(client),
            call.backward(client)
        ));
    }
}

#[test]
fn tensors_of_another_device_are_refused() {
    let [recorder, other] = [Arch::Sm80; 2].map(|arch| Recorder::new(arch).unwrap());
    let problem = Problem::differential([1, 9, 7], [2, 2], [64, 128]);
    let call = Call::new(other.client(), problem, Tuning::default());
    let client = recorder.client();
    assert!(!agree(
        &recorder,
        call.plan_forward(client),
        call.forward(client)
    ));
    assert!(!agree(
        &recorder,
        call.plan_backward(client),
        call.backward(client)
    ));
}

#[test]
fn vectors_of_lambda_that_do_not_fit_launch_nothing() {
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    let vectors = |k2: Tensor| {
        let vector = || empty(client, &[8]);
        let (q1, k1, q2) = (vector(), vector(), vector());
        LambdaTensors { q1, k1, q2, k2 }
    };
    for bad in [
        empty(client, &[9]),
        empty(client, &[2, 4]),
        empty(client, &[0]),
    ] {
        assert!(lambda_on_device(client, &vectors(bad.clone()), 0.2).is_err());
        let gradient = empty(client, &[1]);
        assert!(lambda_gradient_on_device(client, &vectors(bad), &gradient).is_err());
    }
    let long = empty(client, &[2]);
    assert!(lambda_gradient_on_device(client, &vectors(empty(client, &[8])), &long).is_err());
    assert_eq!(recorder.take().unwrap().len(), 0);
}

#[test]
fn planning_launches_nothing_and_is_the_same_every_time() {
    let recorder = Recorder::new(Arch::Sm90a).unwrap();
    let client = recorder.client();
    for entry in entries(Family::Portable)
        .into_iter()
        .chain(entries(Family::Hopper))
    {
        let (inputs, options) = (entry.inputs(client), entry.options());
        let plan = || plan_forward(client, &inputs, &options).unwrap();
        assert_eq!(plan().describe(), plan().describe());
        assert_eq!(plan().to_string(), plan().to_string());
    }
    assert_eq!(recorder.take().unwrap().len(), 0);
}

/// A plan is data: it can be kept, sent, and run on other tensors that lie as the first did, and on no others.
#[test]
fn a_plan_is_run_again_on_other_tensors() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    let problem = Problem::differential([1, 9, 7], [2, 2], [64, 128]).with_norm(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    });
    let call = || Call::new(client, problem, Tuning::default());
    let plan = shared(call().plan_backward(client).unwrap());
    let run = |call: &Call| {
        let Call {
            inputs,
            saved,
            grad_output,
            gradients,
            ..
        } = call;
        let bindings = Bindings::backward(inputs, saved, grad_output, gradients);
        (plan.run(client, &bindings), recorder.take().unwrap().len())
    };
    assert_eq!(run(&call()), (Ok(()), plan.describe().len()));
    let mut other = call();
    other.gradients.query = Tensor::empty(client, DType::F32, &[1, 2, 9, 2, 64])
        .permute(&[0, 2, 1, 3, 4])
        .unwrap();
    let (refused, launched) = run(&other);
    let message = refused.unwrap_err().to_string();
    assert!(
        message.starts_with("gradient of query: has offset 0, shape"),
        "{message}"
    );
    assert_eq!(launched, 0);
    let mut half = call();
    half.inputs.key = Tensor::empty(client, DType::F16, &[1, 7, 2, 2, 64]);
    assert!(run(&half).0.is_err());
}

#[test]
fn a_workspace_holds_all_scratch() {
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    let problem = Problem::differential([2, 300, 7], [2, 2], [64, 128]).with_norm(Norm {
        eps: 1e-5,
        lambda_init: 0.2,
    });
    let call = Call::new(client, problem, Tuning::default());
    let plan = call.plan_backward(client).unwrap();
    // At least the gradient before the norm, and five statistics a row.
    assert!(
        plan.workspace() > 2 * 300 * 2 * 4 * (128 + 5),
        "{}",
        plan.workspace()
    );
    let bindings = Bindings::backward(
        &call.inputs,
        &call.saved,
        &call.grad_output,
        &call.gradients,
    );
    let run = |bytes| plan.run_in(client, &client.empty(bytes), &bindings);
    assert_eq!(run(plan.workspace()), Ok(()));
    assert_eq!(recorder.take().unwrap().len(), plan.describe().len());
    let message = run(plan.workspace() - 1).unwrap_err().to_string();
    assert!(message.starts_with("workspace: has "), "{message}");
    assert_eq!(recorder.take().unwrap().len(), 0);
}

/// The public functions that make their own tensors plan the same.
#[test]
fn given_tensors_and_made_ones_have_one_plan() {
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    let problem = Problem::differential([1, 9, 7], [2, 2], [64, 128]);
    let call = Call::new(client, problem, Tuning::default());
    let Call {
        inputs,
        options,
        saved,
        grad_output,
        ..
    } = &call;
    let made = plan_forward(client, inputs, options).unwrap();
    assert_eq!(
        made.describe(),
        call.plan_forward(client).unwrap().describe()
    );
    assert!(forward(client, inputs, options).unwrap().saved.is_some());
    let made = plan_backward(client, inputs, saved, grad_output, options).unwrap();
    assert_eq!(
        made.describe(),
        call.plan_backward(client).unwrap().describe()
    );
    backward(client, inputs, saved, grad_output, options).unwrap();
    let planned = made.describe().len() + 1;
    assert_eq!(recorder.take().unwrap().len(), planned);
}
