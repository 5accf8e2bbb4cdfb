//! `cargo test` and `cargo run --bin …` ask the same features of every crate, so that CubeCL and wgpu are built once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Sets of features, of every crate in the tree of the given packages along the given kinds of dependencies.
fn features(packages: &[&str], edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix=none", "-f={p}|{f}"])
        .args(packages)
        .args(["-e", edges])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut features: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = String::from_utf8(output.stdout).unwrap();
    for (package, set) in text.lines().filter_map(|line| line.split_once('|')) {
        // Cargo marks what it has shown before.
        let set = set.trim_end_matches(" (*)").to_string();
        features.entry(package.into()).or_default().insert(set);
    }
    features
}

#[test]
fn tools_reuse_what_tests_have_built() {
    let tests = features(&["--workspace"], "normal,build,dev");
    let tools = features(&[], "normal,build");
    assert!(
        tools
            .keys()
            .any(|package| package.starts_with("cubecl-core "))
    );
    let differ = tools
        .iter()
        // The library itself is built for Burn in tests alone; nothing that takes long depends on it.
        .filter(|(package, _)| !package.starts_with("diff-flash-attn "))
        .filter(|(package, set)| tests[*package] != **set);
    let differ: Vec<_> = differ
        .map(|(package, set)| format!("{package}: {set:?}, in tests {:?}", tests[package]))
        .collect();
    assert!(
        differ.is_empty(),
        "add the features that tests have to tools/audit/Cargo.toml:\n{}",
        differ.join("\n")
    );
}
