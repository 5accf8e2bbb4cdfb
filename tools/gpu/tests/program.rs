//! The program as it is run on a GPU, on what there is without one: a software adapter, and the simulator.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Runs the program in a folder of its own; what it printed and, if it timed anything, its file.
fn gpu(folder: &Path, arguments: &[&str]) -> (Output, Vec<Value>) {
    run(
        Command::new(env!("CARGO_BIN_EXE_gpu")).args(arguments),
        folder,
    )
}

fn run(command: &mut Command, folder: &Path) -> (Output, Vec<Value>) {
    let output = command.current_dir(folder).output().unwrap();
    let file = std::fs::read_to_string(folder.join("gpu.json"));
    let results = file.map_or_else(
        |_| vec![],
        |text| {
            let mut file: Value = serde_json::from_str(&text).unwrap();
            serde_json::from_value(file["results"].take()).unwrap()
        },
    );
    (output, results)
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

/// A line about what was left out, on the terminal though the test passes.
fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

const VULKAN: [&str; 6] = [
    "--device",
    "vulkan",
    "--software",
    "--tokens",
    "64",
    "--filter",
];

#[test]
fn times_on_any_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&VULKAN[..], &["d64 f32 64×64", "--repeats", "1"]].concat();
    let (output, results) = gpu(folder.path(), &arguments);
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    let [record] = &results[..] else {
        panic!("{printed}")
    };
    let shape = json!({
        "B": 1, "Nq": 64, "Nk": 64, "H": 20, "Hk": 10, "d": 64, "dv": 128,
        "causal": true, "window": 0, "v2": false,
    });
    assert_eq!(record["shape"], shape);
    let names = ["provider", "dtype", "pass", "family"].map(|name| &record[name]);
    assert_eq!(names, ["ours", "f32", "fwd", "portable"]);
    let [fast, median, slow] =
        ["p20_ms", "median_ms", "p80_ms"].map(|name| record[name].as_f64().unwrap());
    assert!(0.0 < fast && fast <= median && median <= slow, "{record}");
    let flops = record["tflops_nominal"].as_f64().unwrap() * median * 1e9;
    // 64 · 65 / 2 pairs of 20 heads, two maps of d 64 and dv 128, two operations a multiply-add.
    let expected = (2080 * 20 * 2 * (64 + 128) * 2) as f64;
    assert!((flops / expected - 1.0).abs() < 1e-6, "{flops}, {expected}");
    let row = "| Phi-4-mini-flash | wgpu<wgsl> | fwd  | causal | 1×64 | f32  | portable |";
    assert!(printed.contains(row), "{printed}");
    compare(folder.path(), record);
}

/// Ratios to a peer that takes twice as long.
fn compare(folder: &Path, ours: &Value) {
    let mut peer = ours.clone();
    peer["provider"] = json!("slow");
    peer["median_ms"] = json!(2.0 * ours["median_ms"].as_f64().unwrap());
    let peers = json!({ "results": [peer] }).to_string();
    std::fs::write(folder.join("peers.json"), peers).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../peers/compare.py");
    let mut python = Command::new("python3");
    python.args([script, "peers.json", "gpu.json"]);
    let Ok(output) = python.current_dir(folder).output() else {
        return skipped("tools/peers/compare.py, as there is no python3");
    };
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.contains("=  0.50 of slow"), "{printed}");
}

#[test]
fn checks_on_any_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let filter = ["d64 dv128 f32", "--repeats", "2", "--no-bench"];
    let (output, results) = gpu(folder.path(), &[&VULKAN[..], &filter].concat());
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(results.is_empty());
    let line = "d64 dv128 f32 causal differential 1×32×32, 2 times: 2 compared, 0 with other bits";
    assert!(printed.contains(line), "{printed}");
    assert!(
        printed.contains("1 devices, 2 results compared, 0 wrong, 0 calls timed"),
        "{printed}"
    );
}

#[test]
fn nothing_chosen_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (output, results) = gpu(folder.path(), &[&VULKAN[..], &["d7"]].concat());
    assert!(!output.status.success() && results.is_empty());
    let printed = text(&output);
    assert!(
        printed.contains("1 devices, 0 results compared, 0 wrong, 0 calls timed"),
        "{printed}"
    );
}

/// Runs the program on a CUDA device in the simulator; a printed line if there is no compiler for it.
#[cfg(target_os = "linux")]
fn simulated(folder: &Path, arguments: &[&str]) -> Option<(Output, Vec<Value>)> {
    let environment = simulator::environment(folder)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu"));
    command
        .args(["--device", "cuda", "--tokens", "64", "--filter"])
        .args(arguments)
        .envs(environment.variables());
    Some(run(&mut command, folder))
}

#[cfg(target_os = "linux")]
#[test]
fn kernels_for_hopper_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let filter = [
        "d128 dv256 bf16 causal differential",
        "--no-bench",
        "--repeats",
        "1",
    ];
    let Some((output, _)) = simulated(folder.path(), &filter) else {
        return;
    };
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    let lines = [
        "rows of hopper: 1 of 63 compared, 0 wrong",
        "rows of mma: 2 of 28 compared, 0 wrong",
        "d128 dv256 bf16 causal differential 1×32×32, 1 times: 1 compared, 0 with other bits",
        "1 devices, 4 results compared, 0 wrong, 0 calls timed",
    ];
    for line in lines {
        assert!(printed.contains(line), "{line}:\n{printed}");
    }
}

/// The calls of the benchmark are made, and no time of a simulator is anywhere.
#[cfg(target_os = "linux")]
#[test]
fn simulator_has_no_times() {
    let folder = tempfile::tempdir().unwrap();
    let filter = ["d64 dv128 bf16 1×64×64", "--no-check"];
    let Some((output, results)) = simulated(folder.path(), &filter) else {
        return;
    };
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    // With a window and without.
    assert_eq!(results.len(), 2, "{printed}");
    for record in &results {
        let names = ["provider", "pass", "family"].map(|name| &record[name]);
        assert_eq!(names, ["ours", "fwd", "hopper"]);
        let reason = record["skipped"].as_str().unwrap();
        assert!(reason.starts_with("computed, not timed: "), "{reason}");
        let times = ["median_ms", "p20_ms", "p80_ms", "reps", "tflops_nominal"];
        assert!(times.iter().all(|name| record.get(name).is_none()));
        assert!(record["device"].as_str().unwrap().contains("PTX simulator"));
    }
    assert!(printed.contains("0 calls timed"), "{printed}");
}
