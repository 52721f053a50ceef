//! Programs of the distribution that the end-to-end tests and the benchmarks
//! start.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::process::find_on_path;
use crate::workspace::{Workspace, from_here};
use crate::{apt, say};

/// Programs and the packages that they are in.
const PROGRAMS: [(&str, &str); 3] = [
    // Connects network namespaces.
    ("ip", "iproute2"),
    // Makes a disk that can be frozen.
    ("mkfs.ext4", "e2fsprogs"),
    // A terminal for `observer top`.
    ("tmux", "tmux"),
];

/// The package with Prometheus and `promtool`.
const PROMETHEUS: &str = "prometheus";

/// Installs or unpacks what is missing.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    ensure_installed()?;
    ensure_prometheus(workspace)
}

/// Installs what is missing, Prometheus aside.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn ensure_installed() -> Result<()> {
    install(&PROGRAMS, "testing")
}

/// Installs what is missing of programs, each with the package that it is in.
/// `who` needs them.
///
/// # Errors
/// With the line that does it by hand.
pub(crate) fn install(programs: &[(&str, &str)], who: &str) -> Result<()> {
    let missing: Vec<String> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt::ensure(&missing).map_err(|error| {
        let by_hand = apt::by_hand(&missing);
        anyhow!(
            "{who} needs {}: {error:#}\n    {by_hand}",
            missing.join(", ")
        )
    })
}

/// Where `prometheus` and `promtool` are.
pub(crate) fn prometheus_folder(workspace: &Workspace) -> PathBuf {
    prometheus(workspace).join("usr/bin")
}

/// Unpacked and not installed: the package would start a server.
fn ensure_prometheus(workspace: &Workspace) -> Result<()> {
    let folder = prometheus(workspace);
    if prometheus_folder(workspace).join("promtool").is_file() {
        return Ok(());
    }
    say::fact(
        "unpacking",
        format_args!(
            "{PROMETHEUS}, used by the tests, into {}",
            from_here(&folder).display()
        ),
    );
    std::fs::create_dir_all(workspace.tools())?;
    apt::unpack(PROMETHEUS, &folder).map_err(|error| {
        anyhow!(
            "the tests need prometheus and promtool, of Debian's package {PROMETHEUS}: {error:#}\n    \
             unpack them elsewhere into {}",
            from_here(&folder).display()
        )
    })
}

fn prometheus(workspace: &Workspace) -> PathBuf {
    workspace.tools().join(PROMETHEUS)
}

/// Debian keeps some where only root's PATH leads.
fn is_there(program: &str) -> bool {
    find_on_path(program).is_some() || Path::new("/usr/sbin").join(program).exists()
}
