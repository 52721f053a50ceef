//! Kernels of Debian's, as its users have them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::from_here;
use crate::{apt, process, say};

/// Modules that a test needs and Debian does not build in.
const MODULES: [&str; 1] = ["veth"];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// What boots.
    pub(super) image: PathBuf,
    /// Files of kernel modules, uncompressed.
    pub(super) modules: Vec<PathBuf>,
}

impl Kernel {
    /// The newest kernel of a series, such as `6.12`, for virtual machines in
    /// a cloud: from the cache in `folder`, else from Debian.
    ///
    /// # Errors
    /// If no source of packages has one.
    pub(super) fn fetch(series: &str, folder: &Path) -> Result<Self> {
        let package = newest(series)?;
        let unpacked = folder.join(&package);
        if !unpacked.join("boot").is_dir() {
            say::fact(
                "kernel",
                format_args!("{package}, into {}", from_here(&unpacked).display()),
            );
            apt::unpack(&package, &unpacked)?;
        }
        let image = find(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))
            .with_context(|| format!("{package} has no kernel"))?;
        let modules = MODULES
            .iter()
            .map(|name| module(name, &unpacked))
            .collect::<Result<_>>()?;
        Ok(Self { image, modules })
    }
}

/// The package whose name has the highest version. It is the signed one, with
/// modules that a locked-down kernel takes.
fn newest(series: &str) -> Result<String> {
    apt::update_once();
    let prefix = format!("linux-image-{series}.");
    let names = process::capture(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
    names
        .lines()
        .filter(|name| name.ends_with("-cloud-amd64"))
        .max_by_key(|name| version(name))
        .map(str::to_owned)
        .with_context(|| {
            format!(
                "no source of packages has a kernel {series} (linux-image-{series}.…-cloud-amd64); \
                 6.1 and 6.12 are in Debian 12 and its security updates"
            )
        })
}

/// The numbers in a package's name.
fn version(name: &str) -> Vec<u64> {
    name.split(|byte: char| !byte.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn module(name: &str, unpacked: &Path) -> Result<PathBuf> {
    let plain = format!("{name}.ko");
    let found = process::capture(
        Command::new("find")
            .arg(unpacked.join("lib/modules"))
            .args(["-name", &format!("{plain}*")]),
    )?;
    let path = Path::new(
        found
            .lines()
            .next()
            .with_context(|| format!("no module {name}"))?,
    );
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(path.to_owned()),
        Some("xz") => {
            process::run(
                Command::new("xz")
                    .args(["--decompress", "--force"])
                    .arg(path),
            )?;
            Ok(path.with_extension(""))
        }
        _ => bail!("{} is of no known compression", path.display()),
    }
}

/// A file of the folder.
fn find(folder: &Path, fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let at = |name: &str| version(&format!("linux-image-{name}-cloud-amd64"));
        assert!(at("6.1.0-9") < at("6.1.0-47"));
        assert!(at("6.12.99+deb12") < at("6.12.117+deb12"));
    }
}
