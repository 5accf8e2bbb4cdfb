//! The commands, run as a user runs them, on the default adapter.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn run(command: &str, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_train"));
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
    let corpus = folder.join("corpus.txt");
    let source = include_str!("commands.rs").repeat(20);
    std::fs::write(&corpus, source).expect("a corpus");
    let (corpus, folder) = (corpus.to_str().unwrap(), folder.to_str().unwrap());
    let options = ["--text", corpus, "--folder", folder, "--size", "small"];
    run("train", &[&options[..], more].concat())
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
