//! Debian packages, installed where we may, named where we may not.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{quiet, succeeds};
use crate::progress::spin;

/// Installs Debian packages; `need` says what for.
///
/// # Errors
/// What to install by hand, if there is no apt-get or neither root nor a sudo that asks no password; what apt-get said,
/// if it failed.
pub(crate) fn install(need: &str, packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !available() {
        bail!(
            "{need} is missing, and there is no apt-get here. Install what Debian calls {list}, then run this again"
        );
    }
    let Some(prefix) = privilege() else {
        bail!("{need} is missing. Run `sudo apt-get install -y {list}`, then run this again");
    };
    let install = ["install", "-y", "--no-install-recommends"];
    spin(&format!("Installing {need} ({list})"), || {
        quiet(apt_get(prefix).arg("update"))?;
        quiet(apt_get(prefix).args(install).args(packages))
    })
    .with_context(|| format!("{need} could not be installed"))
}

/// Whether this is a Debian, or a descendant of one.
pub(crate) fn available() -> bool {
    succeeds("apt-get", &["--version"])
}

/// The words before a command that make it run as root; none if nothing does without a password.
fn privilege() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&["env"]);
    }
    succeeds("sudo", &["-n", "true"]).then_some(&["sudo", "-n", "env"])
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

fn apt_get(prefix: &[&str]) -> Command {
    let mut command = Command::new(prefix[0]);
    command
        .args(&prefix[1..])
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    command
}
