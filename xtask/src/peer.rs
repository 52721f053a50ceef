//! The peer that the benchmarks compare with: varta-watch, as published.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{process, say};

const CRATE: &str = "varta-watch";
const VERSION: &str = "0.2.0";

/// A build of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Build {
    /// With the crate's default features.
    Default,
    /// With its metrics besides.
    Metrics,
}

impl Build {
    /// Each under a root of its own: they have the same name.
    fn root(self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join(match self {
            Self::Default => "varta-watch",
            Self::Metrics => "varta-watch-metrics",
        })
    }

    /// Where the program is.
    pub(crate) fn program(self, workspace: &Workspace) -> PathBuf {
        self.root(workspace).join("bin").join(CRATE)
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Metrics => &["--features", "prometheus-exporter"],
        }
    }
}

/// Builds both from the registry unless they are there.
///
/// # Errors
/// If the registry or the compiler fails.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let scratch = workspace.tools().join("build-varta-watch");
    for build in [Build::Default, Build::Metrics] {
        if !build.program(workspace).is_file() {
            install(workspace, build, &scratch)?;
        }
    }
    if scratch.exists() {
        fs::remove_dir_all(&scratch)
            .with_context(|| format!("cannot remove {}", scratch.display()))?;
    }
    Ok(())
}

fn install(workspace: &Workspace, build: Build, scratch: &Path) -> Result<()> {
    say::fact(
        "installing",
        format_args!("{CRATE} {VERSION} ({build:?}), used by the benchmarks"),
    );
    let mut cargo = process::cargo(workspace);
    cargo
        .args(["install", CRATE, "--version", VERSION, "--locked"])
        .args(build.features())
        .arg("--root")
        .arg(build.root(workspace))
        .env("CARGO_TARGET_DIR", scratch);
    process::run(&mut cargo).with_context(|| format!("cannot install {CRATE} {VERSION}"))
}
