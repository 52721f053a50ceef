//! Python's package installer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt;
use crate::process::{self, find_on_path};

/// Installs into a folder what the arguments name, without what it needs.
///
/// # Errors
/// With the line that installs pip by hand, if that is missing.
pub(crate) fn install(
    folder: &Path,
    what: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<()> {
    ensure_pip()?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--no-deps"])
        .arg("--target")
        .arg(folder)
        .env("PIP_ROOT_USER_ACTION", "ignore");
    process::run(what(&mut pip))
}

fn ensure_pip() -> Result<()> {
    let answers =
        |mut python: Command| process::capture(python.args(["-m", "pip", "--version"])).is_ok();
    if find_on_path("python3").is_some() && answers(Command::new("python3")) {
        return Ok(());
    }
    let packages = ["python3", "python3-pip"].map(String::from);
    apt::ensure(&packages).with_context(|| {
        format!(
            "python3 with pip is needed; on Debian: {}",
            apt::by_hand(&packages)
        )
    })
}
