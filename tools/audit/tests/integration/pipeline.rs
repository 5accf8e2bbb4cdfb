//! From a launch to registers and spills: a kernel that is fine, one that spills, one that does not compile.

use std::io::Write;

use audit::{Item, Report};
use cubecl::prelude::*;
use cuda_device::{Arch, Nvrtc, Recorder};

/// More values than a thread has registers (255), all alive from one round of the loop to the next.
const TOO_MANY: usize = 320;

#[cube(launch_unchecked)]
fn scale(x: &[f32], y: &mut [f32], factor: f32) {
    if ABSOLUTE_POS < y.len() {
        y[ABSOLUTE_POS] = x[ABSOLUTE_POS] * factor;
    }
}

#[cube(launch_unchecked)]
fn reverse(x: &[f32], y: &mut [f32]) {
    let mut tile = Shared::<[f32]>::new_slice(32usize);
    tile[UNIT_POS as usize] = x[ABSOLUTE_POS];
    sync_cube();
    y[ABSOLUTE_POS] = tile[31 - UNIT_POS as usize];
}

#[cube(launch_unchecked)]
fn recurrences(x: &[f32], y: &mut [f32], rounds: u32, #[comptime] count: usize) {
    let mut state = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        state[i] = x[i];
    }
    for round in 0..rounds {
        #[unroll]
        for i in 0..count {
            state[i] = state[i] * state[(i + 1) % count] + x[round as usize];
        }
    }
    #[unroll]
    for i in 0..count {
        y[i] = state[i];
    }
}

const ONE: CubeCount = CubeCount::Static(1, 1, 1);

fn argument(client: &Client, len: usize) -> BufferArg {
    // SAFETY: the buffer has `len` elements of 4 bytes.
    unsafe { BufferArg::from_raw_parts(client.empty(4 * len), len) }
}

fn launch_scale(client: &Client) {
    let (x, y) = (argument(client, 64), argument(client, 64));
    // SAFETY: nothing runs.
    unsafe { scale::launch_unchecked(client, ONE, CubeDim::new_1d(64), x, y, 2.0) };
}

fn launch_reverse(client: &Client) {
    let (x, y) = (argument(client, 32), argument(client, 32));
    // SAFETY: nothing runs.
    unsafe { reverse::launch_unchecked(client, ONE, CubeDim::new_1d(32), x, y) };
}

fn launch_recurrences(client: &Client) {
    let (x, y) = (argument(client, TOO_MANY), argument(client, TOO_MANY));
    // SAFETY: nothing runs.
    unsafe {
        recurrences::launch_unchecked(client, ONE, CubeDim::new_1d(32), x, y, 9, TOO_MANY);
    }
}

/// NVRTC, or a printed line about its absence: the line goes to the terminal though the test passes.
fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped, nothing compiled: {error:#}");
            None
        }
    }
}

fn report(launch: fn(&Client), arch: Arch, nvrtc: &Nvrtc) -> Report {
    report_within(launch, arch, nvrtc, 32 << 10)
}

/// The same, of kernels that may take so much shared memory.
fn report_within(launch: fn(&Client), arch: Arch, nvrtc: &Nvrtc, shared_memory: usize) -> Report {
    let recorder = Recorder::new(arch).unwrap();
    launch(recorder.client());
    let item = |kernel| Item {
        kernel,
        settings: "test".into(),
        arch,
        overlaps: false,
        shared_memory,
    };
    let items = recorder.take().unwrap().into_iter().map(item);
    let kernels = items.map(|item| audit::audit(&item, nvrtc)).collect();
    Report { kernels }
}

#[test]
fn launches_are_recorded_in_order_and_once() {
    let recorder = Recorder::new(Arch::Sm80).unwrap();
    let client = recorder.client();
    launch_scale(client);
    launch_reverse(client);
    launch_scale(client);
    let kernels = recorder.take().unwrap();
    let names: Vec<_> = kernels
        .iter()
        .map(|kernel| kernel.id().short_name())
        .collect();
    assert_eq!(names, ["Scale", "Reverse", "Scale"]);
    assert_eq!(kernels[0].id(), kernels[2].id());
    assert_ne!(kernels[0].id(), kernels[1].id());
    assert!(recorder.take().unwrap().is_empty());
}

#[test]
fn recorder_looks_like_a_cuda_device() {
    let recorder = Recorder::new(Arch::Sm90a).unwrap();
    let client = recorder.client();
    assert_eq!(client.name(), "cuda");
    let hardware = &client.properties().hardware;
    assert_eq!((hardware.plane_size_min, hardware.plane_size_max), (32, 32));
    assert_eq!(hardware.max_shared_memory_size, 227 * 1024);
    let handle = client.create_from_slice(&[1, 2, 3]);
    client.check([&handle]).unwrap();
    assert_eq!(&client.read_one(handle).unwrap()[..], [0, 0, 0]);
}

#[test]
fn good_kernels_pass() {
    let Some(nvrtc) = nvrtc() else { return };
    for arch in Arch::ALL {
        let report = report(launch_reverse, arch, &nvrtc);
        let kernel = &report.kernels[0];
        let (ptx, needs) = kernel.outcome.as_ref().unwrap();
        assert!(
            kernel.passed() && needs.registers > 0 && needs.stack == 0,
            "{report}"
        );
        assert_eq!(kernel.shared_memory(), 32 * 4);
        assert!(ptx.contains(&format!(".target {arch}")));
        assert_eq!(kernel.source.as_ref().unwrap().cube_dim, [32, 1, 1]);
        assert!(
            report.to_string().ends_with("\n1 passed, 0 failed"),
            "{report}"
        );
    }
}

#[test]
fn spills_fail() {
    let Some(nvrtc) = nvrtc() else { return };
    for arch in Arch::ALL {
        let report = report(launch_recurrences, arch, &nvrtc);
        let (_, needs) = report.kernels[0].outcome.as_ref().unwrap();
        assert!(needs.spills() && needs.registers == 255, "{needs:?}");
        assert_eq!(report.failed(), 1);
        assert!(
            report.to_string().ends_with("\n0 passed, 1 failed"),
            "{report}"
        );
    }
}

#[test]
fn shared_memory_is_limited() {
    let Some(nvrtc) = nvrtc() else { return };
    for (limit, failed) in [(32 * 4, 0), (32 * 4 - 1, 1)] {
        let report = report_within(launch_reverse, Arch::Sm80, &nvrtc, limit);
        assert_eq!(report.failed(), failed, "{report}");
    }
}

#[test]
fn refused_source_comes_with_the_compilers_words() {
    let Some(nvrtc) = nvrtc() else { return };
    let error = nvrtc.compile("__global__ void broken() { nonsense }", Arch::Sm80);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("identifier \"nonsense\" is undefined"),
        "{error}"
    );
}

#[test]
fn files_are_named_after_kernel_settings_and_architecture() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = report(launch_scale, Arch::Sm80, &nvrtc);
    report.write_sources(folder.path()).unwrap();
    report.write_ptx(folder.path()).unwrap();
    let source = std::fs::read_to_string(folder.path().join("Scale_test_sm_80.cu")).unwrap();
    assert!(source.contains("__global__"));
    let ptx = std::fs::read_to_string(folder.path().join("Scale_test_sm_80.ptx")).unwrap();
    assert!(
        ptx.starts_with("// block 64 1 1, dynamic shared memory 0 bytes\n"),
        "{ptx}"
    );
}
