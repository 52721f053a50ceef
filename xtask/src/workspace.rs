//! Where things are in this checkout.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use observer_ebpf_build::{linker, object};

/// The checkout. `CARGO_TARGET_DIR` and the like have no say here: what the
/// verbs build is always found under `target/`.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Cargo says where the package is; without cargo (through sudo), it is
    /// where it was when this binary was built.
    pub(crate) fn locate() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .context("the xtask package has no parent folder")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Tools that no package manager installs.
    pub(crate) fn tools(&self) -> PathBuf {
        linker::tools(&self.root)
    }

    /// What `cargo xtask build-ebpf` builds.
    pub(crate) fn ebpf_object(&self, log: bool) -> PathBuf {
        self.target().join("bpf").join(object::file_name(log))
    }

    pub(crate) fn observer(&self) -> PathBuf {
        self.target().join("release/observer")
    }
}

/// As short as it can be written from where the developer stands.
pub(crate) fn from_here(path: &Path) -> PathBuf {
    env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .unwrap_or(path)
        .to_path_buf()
}
