//! Packages of Debian and its children.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use anyhow::{Result, bail};

use crate::process::{self, find_on_path};
use crate::{root, say};

/// Sees to it that the packages are installed.
///
/// # Errors
/// If that cannot be done from here, or failed.
pub(crate) fn ensure(packages: &[String]) -> Result<()> {
    if find_on_path("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !root::is_root() {
        bail!("installing packages needs root");
    }
    update_once();
    // Without --no-remove, apt would replace a rustup or a rustc of Debian's.
    process::run(
        apt_get(&[
            "install",
            "-y",
            "--no-install-recommends",
            "--no-remove",
            "-qq",
        ])
        .args(missing),
    )
}

/// Fetches a package and unpacks it into a folder, without installing it:
/// nothing starts, and nothing outside the folder changes. Unpacks beside the
/// place and moves there last: what is there is whole.
///
/// # Errors
/// If no source has it, or this is no Debian.
pub(crate) fn unpack(package: &str, to: &Path) -> Result<()> {
    if find_on_path("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    update_once();
    unpack_all(&[package.to_owned()], to)
}

/// The same with all that the package needs and that is not installed. Where
/// installing it would take other packages away, as where these are of other
/// versions, it can be had so.
///
/// # Errors
/// Likewise.
pub(crate) fn unpack_with_needs(package: &str, to: &Path) -> Result<()> {
    if find_on_path("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    update_once();
    let plan = process::capture(&mut apt_get(&[
        "install",
        "--simulate",
        "--no-install-recommends",
        package,
    ]))?;
    let needed = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    let needed: Vec<String> = needed
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    unpack_all(&needed, to)
}

fn unpack_all(packages: &[String], to: &Path) -> Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::create_dir_all(&beside)?;
    let mut download = apt_get(&["download", "-qq"]);
    process::run(download.args(packages).current_dir(&beside))?;
    let archives: Vec<PathBuf> = fs::read_dir(&beside)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    if archives.len() < packages.len() {
        bail!("apt-get did not bring all of {}", packages.join(", "));
    }
    for archive in archives {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--extract").arg(&archive).arg(&beside);
        process::run(&mut dpkg)?;
        fs::remove_file(archive)?;
    }
    fs::rename(&beside, to)?;
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    process::capture(&mut query).is_ok_and(|status| status == "installed")
}

/// Package lists may be old or absent. A source that cannot be reached is no
/// reason to stop: the packages may come from another.
pub(crate) fn update_once() {
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if let Err(error) = process::run(&mut apt_get(&["update", "-qq"])) {
            say::bad(
                "warning",
                format_args!("{error:#}; going on with what is known"),
            );
        }
    });
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The line that does by hand what [`ensure`] does.
pub(crate) fn by_hand(packages: &[String]) -> String {
    let sudo = if root::is_root() { "" } else { "sudo " };
    let packages = packages.join(" ");
    format!("{sudo}apt-get update && {sudo}apt-get install --no-install-recommends {packages}")
}
