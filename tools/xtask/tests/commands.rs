//! The commands, run as a user runs them, on the default adapter.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn xtask(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).output().expect("xtask starts")
}

fn fixtures() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs golden with a tolerance; its verdict and the rows that it wrote.
fn golden(device: &str, tolerance: &str) -> (bool, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("errors.json");
    let json_path = json.to_str().expect("a readable path");
    let options = [
        "--device",
        device,
        "--json",
        json_path,
        "--tolerance",
        tolerance,
    ];
    let output = xtask(&[&["golden", fixtures()][..], &options].concat());
    let text = std::fs::read_to_string(json).expect("the JSON file is written either way");
    println!("{}", stdout(&output));
    (
        output.status.success(),
        serde_json::from_str(&text).expect("an array"),
    )
}

#[test]
fn golden_cases_agree_on_the_device() {
    let (success, rows) = golden("wgpu", "1e-5");
    assert!(success);
    let outputs = rows.iter().filter(|row| row["tensor"] == "y").count();
    assert_eq!((outputs, rows.len()), (5, 40));
    for row in rows {
        let fields: Vec<_> = row
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        assert_eq!(fields, ["case", "kernel", "max_abs", "relative", "tensor"]);
        let kernel = match row["tensor"].as_str().expect("a name") {
            "y" | "dq" | "dk" | "dv" => "portable",
            "dgamma" => "passes",
            _ => "host",
        };
        assert_eq!(row["kernel"], kernel, "{row}");
        assert!(
            row["relative"].as_f64().is_some_and(|error| error < 1e-5),
            "{row}"
        );
    }
}

#[test]
fn golden_fails_above_the_tolerance() {
    assert!(golden("reference", "1e-5").0);
    assert!(!golden("reference", "1e-9").0);
}

#[test]
fn golden_says_what_it_cannot_read() {
    let output = xtask(&["golden", "no/such/folder", "--device", "reference"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("cannot read no/such/folder"),
        "{message}"
    );
}

#[test]
fn demo_checks_times_and_draws() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = folder.path().join("maps.png");
    let path = picture.to_str().expect("a readable path");
    let sizes = ["--seq", "80", "--heads", "2", "--dim", "16", "--head", "1"];
    let output = xtask(&[&["demo", "--picture", path][..], &sizes].concat());
    println!("{}", stdout(&output));
    assert!(output.status.success());
    for part in ["dgamma", "standard, same width", path] {
        assert!(stdout(&output).contains(part), "{part} is missing");
    }
    assert!(is_drawn(&picture));
}

/// Whether a picture has more than a few colours.
fn is_drawn(path: &Path) -> bool {
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("the picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut pixels).expect("pixels");
    let colors: std::collections::HashSet<_> = pixels.chunks(3).collect();
    colors.len() > 100
}

#[test]
fn demo_refuses_a_head_that_is_not_there() {
    let output = xtask(&["demo", "--head", "4"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("--head 4: there are 4"),
        "{message}"
    );
}
