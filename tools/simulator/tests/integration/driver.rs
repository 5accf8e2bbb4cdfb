//! The library on CubeCL's CUDA runtime, whole, with the simulated driver in the place of NVIDIA's.

use checks::cases::Case;
use checks::device::{Layout, checks, forward_family, inputs, options, run};
use checks::tolerance::assert_all;
use cuda_device::Arch;
use diff_flash_attn::{
    Client, DType, Error, Inputs, Mask, Norm, Options, Problem, Tensor, Tuning, device, forward,
    tuning::Family,
};
use simulator::{Launched, Settings, has_driver, settings, with_devices, with_driver};

fn problem([head_dim, value_dim]: [usize; 2], dtype: DType) -> Problem {
    Problem::differential([1, 70, 130], [2, 1], [head_dim, value_dim])
        .with_mask(Mask::Causal)
        .with_dtype(dtype)
        .with_norm(Some(Norm {
            eps: 1e-5,
            lambda_init: 0.4,
        }))
}

fn client() -> Client {
    let client = device::cuda(0).unwrap();
    let name = &client.properties().identity.name;
    assert!(name.contains("simulator"), "{name}");
    client
}

/// What kernels are audited and simulated for is what the runtime itself would say of such a GPU.
fn compare_with_the_runtime(arch: Arch) {
    let (client, pretended) = (client(), arch.properties());
    let real = client.properties();
    assert_eq!(pretended.hardware, real.hardware, "{arch}");
    assert_eq!(pretended.identity.fingerprint, real.identity.fingerprint);
    assert_eq!(pretended.features.plane, real.features.plane, "{arch}");
    assert_eq!(pretended.features.tma, real.features.tma, "{arch}");
    assert_eq!(pretended.features.matmul, real.features.matmul, "{arch}");
    assert_eq!(pretended.features.types.opaque, real.features.types.opaque);
    assert_eq!(pretended.features.cube_cluster, real.features.cube_cluster);
}

#[test]
fn pretended_devices_are_those_of_the_runtime() {
    // The process on the driver sees one of them.
    let archs = match has_driver() {
        true => vec![shown()],
        false => Arch::ALL.to_vec(),
    };
    for arch in archs {
        let test = || compare_with_the_runtime(arch);
        let name = "driver::pretended_devices_are_those_of_the_runtime";
        with_devices(name, settings(arch), test);
    }
}

/// The architecture that the driver shows to this process.
fn shown() -> Arch {
    let settings = Settings::read().unwrap();
    Arch::of_compute_capability(settings.compute_capability).unwrap()
}

/// Two devices that do nothing: each launch is noted with its device and stream, and nothing is computed.
#[test]
fn launches_are_noted_where_none_runs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        devices: 2,
        run: false,
        record: Some(folder.path().join("launches")),
        ..settings(Arch::Sm86)
    };
    with_devices(
        "driver::launches_are_noted_where_none_runs",
        settings,
        || {
            for index in [0, 1] {
                let client = device::cuda(index).unwrap();
                let ones =
                    Tensor::from_f32(&client, DType::F32, &[1, 4, 1, 8], &[1.0; 32]).unwrap();
                let inputs = Inputs::standard(ones.clone(), ones.clone(), ones);
                let output = forward(&client, &inputs, &Options::default())
                    .unwrap()
                    .output;
                let values = output.to_f32(&client).unwrap();
                assert!(values.iter().all(|x| *x != 1.0), "{values:?}");
            }
            assert!(device::cuda(2).is_err());
            let record = Settings::read().unwrap().record.unwrap();
            let launches = std::fs::read_to_string(record).unwrap();
            let launches: Vec<_> = launches.lines().map(Launched::parse).collect();
            let [Some(first), Some(second)] = &launches[..] else {
                panic!("{launches:?}");
            };
            assert_eq!([first.device, second.device], [0, 1]);
            assert_eq!(first.kernel, second.kernel);
            assert_ne!(first.stream, 0, "a default stream");
            assert_eq!(first.grid, second.grid);
        },
    );
}

/// Forward and gradients, with tensor maps and clusters where the library takes the kernel for Hopper.
fn verify(shape: [usize; 2], dtype: DType, family: Family) {
    let (client, problem) = (client(), problem(shape, dtype));
    let lambda = [problem.batch, problem.query_len, problem.heads];
    let case = Case::random(problem, &lambda, true, 5);
    let ours = run(&client, &case, Layout::Interleaved, Tuning::default());
    assert_all(&format!("{dtype} {shape:?}"), &checks(&case, &ours));
    let inputs = inputs(&client, &case, Layout::Interleaved);
    let taken = forward_family(&client, &inputs, &options(&case, Tuning::default())).unwrap();
    assert_eq!(taken, family, "{dtype} {shape:?}");
}

#[test]
fn attention_in_half_precision() {
    with_driver("driver::attention_in_half_precision", || {
        verify([64, 128], DType::BF16, Family::Hopper);
        verify([128, 256], DType::F16, Family::Hopper);
    });
}

#[test]
fn attention_in_single_precision() {
    with_driver("driver::attention_in_single_precision", || {
        verify([64, 64], DType::F32, Family::Portable);
    });
}

/// What the library refuses is an error here as on any device, and leaves the device usable.
#[test]
fn refusals_leave_the_device_usable() {
    with_driver("driver::refusals_leave_the_device_usable", || {
        let client = client();
        let tensor = |shape: &[usize]| {
            let values = vec![1.0; shape.iter().product()];
            Tensor::from_f32(&client, DType::F32, shape, &values).unwrap()
        };
        let run = |keys: [usize; 4]| {
            let (query, value) = (tensor(&[1, 3, 1, 8]), tensor(&[1, 4, 1, 8]));
            let inputs = Inputs::standard(query, tensor(&keys), value);
            let output = forward(&client, &inputs, &Options::default())?.output;
            output.to_f32(&client)
        };
        assert!(matches!(run([1, 4, 1, 9]), Err(Error::Size { .. })));
        assert_eq!(run([1, 4, 1, 8]).unwrap(), [1.0; 24]);
    });
}

/// The pools of the runtime ask the driver for memory, copy to and from it, and give it back.
#[test]
fn memory_is_asked_for_and_given_back() {
    with_driver("driver::memory_is_asked_for_and_given_back", || {
        let client = client();
        for len in [1, 1 << 10, 1 << 20, 5 << 20, 3, 1 << 20] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let tensor = Tensor::from_f32(&client, DType::F32, &[len], &values).unwrap();
            assert_eq!(tensor.to_f32(&client).unwrap(), values);
            client.memory_cleanup().unwrap();
        }
    });
}
