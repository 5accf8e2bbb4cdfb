//! The programs that cargo builds for the workspace's tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace;

/// What a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A binary, not its tests.
    Binary,
    /// An integration test.
    Test,
    /// The unit tests of a library or binary.
    UnitTest,
}

/// A program, and the folder of its package.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) target: String,
    pub(crate) folder: PathBuf,
    path: PathBuf,
}

impl Program {
    /// Reads one of cargo's messages, if it is about a program.
    fn parse(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let path = message["executable"].as_str()?;
        let manifest = Path::new(message["manifest_path"].as_str()?);
        let target = &message["target"];
        let kind = match (&message["profile"]["test"], &target["kind"][0]) {
            (Value::Bool(false), _) => Kind::Binary,
            (_, kind) if kind == "test" => Kind::Test,
            _ => Kind::UnitTest,
        };
        Some(Self {
            kind,
            target: target["name"].as_str()?.into(),
            folder: manifest.parent()?.into(),
            path: path.into(),
        })
    }

    /// Runs it as cargo would; the variables that cargo gave this process are there, too.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder);
        command.env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// Builds all tests of the workspace: one selection of packages, so that nothing is built twice.
pub(crate) fn programs() -> Result<Vec<Program>> {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("cannot start cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(Program::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::{Kind, Program};

    fn message(kind: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"/a/b/Cargo.toml","target":{{"kind":["{kind}"],"name":"c"}},
            "profile":{{"test":{test}}},"executable":{executable}}}"#
        )
    }

    #[test]
    fn reads_what_cargo_says() {
        for (kind, test, expected) in [
            ("test", true, Kind::Test),
            ("lib", true, Kind::UnitTest),
            ("bin", true, Kind::UnitTest),
            ("bin", false, Kind::Binary),
        ] {
            let program = Program::parse(&message(kind, test, r#""/a/target/c""#));
            let expected = Program {
                kind: expected,
                target: "c".into(),
                folder: "/a/b".into(),
                path: "/a/target/c".into(),
            };
            assert_eq!(program, Some(expected));
        }
    }

    #[test]
    fn leaves_what_is_no_program() {
        let library = message("lib", false, "null");
        for line in [library.as_str(), r#"{"reason":"build-finished"}"#, "text"] {
            assert_eq!(Program::parse(line), None, "{line}");
        }
    }
}
