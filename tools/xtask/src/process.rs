//! Child processes: quiet unless they fail, or with all that they print.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end without showing anything; the last lines of its output are the error if it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    bail!("{command:?}: {}\n{tail}", output.status)
}

/// Whether the program exists and says success; its output goes nowhere.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs to the end. Whether it says success, and everything that it printed.
pub(crate) fn captured(mut command: Command) -> Result<(bool, String)> {
    let (mut reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?);
    let child = command.stderr(writer).spawn();
    let mut child = child.with_context(|| format!("cannot start {command:?}"))?;
    // Or the pipe would never end.
    drop(command);
    let mut text = vec![];
    reader.read_to_end(&mut text)?;
    let success = child.wait()?.success();
    Ok((success, String::from_utf8_lossy(&text).into_owned()))
}
