//! The public Python client, one of the agents in the end-to-end tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, find_on_path};
use crate::workspace::Workspace;
use crate::{apt, say};

const PACKAGE: &str = "varta";
const VERSION: &str = "0.2.0";

/// Where the package is, for `PYTHONPATH`.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("python")
}

/// Installs the package under `target/tools` unless it is there.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    if !folder
        .join(format!("{PACKAGE}-{VERSION}.dist-info/RECORD"))
        .is_file()
    {
        ensure_pip()?;
        say::fact(
            "installing",
            format_args!("{PACKAGE} {VERSION} for Python, used by the tests"),
        );
        let mut pip = Command::new("python3");
        pip.current_dir(workspace.root())
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--upgrade",
                "--no-deps",
                "--target",
            ])
            .arg(&folder)
            .arg(format!("{PACKAGE}=={VERSION}"))
            .env("PIP_ROOT_USER_ACTION", "ignore");
        process::run(&mut pip).with_context(|| format!("cannot install {PACKAGE} {VERSION}"))?;
    }
    Ok(())
}

/// What `setup` says of it.
pub(crate) fn summary() -> String {
    format!("{PACKAGE} {VERSION} for python3")
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
            "the tests need python3 with pip; on Debian: {}",
            apt::by_hand(&packages)
        )
    })
}
