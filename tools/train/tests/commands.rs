//! The commands, run as a user runs them, on the default adapter.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_train"))
}

fn run(command: &str, args: &[&str]) -> Output {
    let mut program = program();
    program
        .arg(command)
        .args(args)
        .output()
        .expect("train starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Trains on this file and the sources beside it, in `folder`.
fn train(folder: &Path, more: &[&str]) -> Output {
    train_with(&mut program(), folder, more)
}

fn train_with(program: &mut Command, folder: &Path, more: &[&str]) -> Output {
    let corpus = folder.join("corpus.txt");
    let source = include_str!("commands.rs").repeat(20);
    std::fs::write(&corpus, source).expect("a corpus");
    program.args(["train", "--size", "small", "--text"]);
    program.arg(corpus).arg("--folder").arg(folder).args(more);
    program.output().expect("train starts")
}

fn losses(folder: &Path) -> Vec<f64> {
    let progress =
        std::fs::read_to_string(folder.join("diff/progress.json")).expect("a checkpoint");
    let progress: Value = serde_json::from_str(&progress).expect("JSON");
    let losses = progress["training"].as_array().expect("an array");
    losses
        .iter()
        .map(|loss| loss.as_f64().expect("a number"))
        .collect()
}

#[test]
fn a_training_goes_on_where_it_stopped() {
    let [whole, halves] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let output = train(whole.path(), &["--steps", "4"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("step 4: loss "),
        "{}",
        text(&output.stdout)
    );
    assert!(
        train(halves.path(), &["--steps", "4", "--until", "2"])
            .status
            .success()
    );
    assert_eq!(losses(halves.path()).len(), 2);
    let output = train(halves.path(), &["--steps", "4"]);
    assert!(
        text(&output.stdout).contains("going on from step 2"),
        "{}",
        text(&output.stdout)
    );

    assert_eq!(losses(halves.path()), losses(whole.path()));
    let plot = std::fs::read(halves.path().join("loss.png")).expect("a plot");
    assert!(plot.starts_with(b"\x89PNG"));
}

#[test]
fn another_training_is_not_mixed_with_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(
        train(folder.path(), &["--steps", "4", "--until", "1"])
            .status
            .success()
    );
    let output = train(folder.path(), &["--steps", "5"]);
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("--fresh starts over"),
        "{}",
        text(&output.stderr)
    );
}

/// A device without bf16 is named; one that has it trains.
#[test]
fn attention_has_its_own_precision() {
    let folder = tempfile::tempdir().expect("a folder");
    let bf16 = ["--steps", "2", "--attention-dtype", "bf16"];
    let output = train(folder.path(), &bf16);
    let refusal = text(&output.stderr);
    assert!(
        output.status.success() || refusal.contains(" has no bf16"),
        "{refusal}"
    );
    let output = train(folder.path(), &[&bf16[..], &["--device", "cpu"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = train(folder.path(), &["--steps", "2"]);
    let refusal = text(&output.stderr);
    assert!(refusal.contains("attention in bf16"), "{refusal}");
}

fn checkpoint() -> &'static str {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/diffllama_model"
    )
}

#[test]
fn a_checkpoint_agrees_and_continues() {
    let output = run("load", &[checkpoint(), "1", "5", "--tokens", "3"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("agrees (tolerance 1e-4)"), "{shown}");
    let continued = shown
        .lines()
        .find_map(|line| line.strip_prefix("continued with "));
    assert_eq!(continued.expect(&shown).split(' ').count(), 3);
    let same = text(&run("load", &[checkpoint(), "1", "5", "--tokens", "3"]).stdout);
    assert_eq!(same, shown);
}

#[test]
fn what_differs_or_is_wrong_fails() {
    let strict = run("load", &[checkpoint(), "--tolerance", "1e-12"]);
    assert!(!strict.status.success());
    assert!(text(&strict.stdout).contains("DIFFERS"));
    let unknown = run("load", &[checkpoint(), "97"]);
    assert!(text(&unknown.stderr).contains("token 97 is none of the 97"));
    let missing = run("load", &["/nonexistent"]);
    assert!(text(&missing.stderr).contains("error: /nonexistent/config.json"));
}

/// A step of the same training on wgpu and on CUDA, whose matrix products round to tf32.
#[cfg(target_os = "linux")]
#[test]
fn a_training_goes_on_on_another_device() {
    let [wgpu, cuda, files] = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let Some(mut simulated) = simulated(files.path()) else {
        return;
    };
    for folder in [&wgpu, &cuda] {
        let first = train(folder.path(), &["--steps", "40", "--until", "1"]);
        assert!(first.status.success(), "{}", text(&first.stderr));
    }
    let two = ["--steps", "40", "--until", "2"];
    let there = [&two[..], &["--device", "cuda"]].concat();
    let steps = [
        (&wgpu, train(wgpu.path(), &two)),
        (&cuda, train_with(&mut simulated, cuda.path(), &there)),
    ];
    let [expected, ours] = steps.map(|(folder, output)| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        losses(folder.path())
    });
    assert_eq!((expected.len(), expected[0]), (2, ours[0]));
    assert!(
        (ours[1] - expected[1]).abs() < 1e-3,
        "{ours:?} {expected:?}"
    );
}

/// TF32 is all that makes a difference: it is said, and allowed for.
#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_agrees_on_cuda() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(mut simulated) = simulated(files.path()) else {
        return;
    };
    simulated.args(["load", checkpoint(), "1", "--device", "cuda"]);
    let output = simulated.output().expect("train starts");
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("to TF32 on this device"), "{shown}");
    assert!(shown.contains("agrees (tolerance 5e-3)"), "{shown}");
}

/// The program where it finds a CUDA device in a simulator; a printed line if there is no compiler for it.
#[cfg(target_os = "linux")]
fn simulated(folder: &Path) -> Option<Command> {
    let environment = simulator::environment(folder)?;
    let mut program = program();
    program.envs(environment.variables());
    Some(program)
}
