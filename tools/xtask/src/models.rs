//! Commands of tools/train, which is built only for them: Burn takes longer to build than everything else here.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};

use crate::{setup, workspace};

/// What the command is given, handed on as it is.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the command; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds tools/train and runs `command` there. Whether it says success.
pub(crate) fn run(command: &str, options: &Options) -> Result<bool> {
    let arguments = &options.arguments;
    let given = |text: &str| arguments.iter().any(|argument| argument == text);
    if !given("--help") {
        setup::vulkan()?;
    }
    // The packages that tests are built with, so that nothing is built twice.
    let mut build = workspace::cargo();
    build.args(["build", "--workspace", "--bin", "train"]);
    let built = build.status().context("cannot start cargo")?;
    ensure!(built.success(), "tools/train does not build");
    let program = workspace::target()
        .join("debug")
        .join(format!("train{}", std::env::consts::EXE_SUFFIX));
    let mut train = std::process::Command::new(&program);
    let status = train.arg(command).args(arguments).status();
    Ok(status
        .with_context(|| format!("cannot start {}", program.display()))?
        .success())
}
