//! `cargo xtask build-ebpf`: the object that the observer loads.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use observer_ebpf_build::Toolchain;
use observer_ebpf_build::object::Build;

use crate::workspace::{Workspace, from_here};
use crate::{process, say, setup};

/// What `observer/build.rs` reads: the object to build in.
const OBJECT: &str = "OBSERVER_EBPF_OBJECT";

/// `cargo xtask build-ebpf`
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// With a debug log from inside the programs; a second object beside the
    /// usual one, for an observer with the feature `ebpf-log`
    #[arg(long)]
    pub(crate) log: bool,

    /// Fail on warnings
    #[arg(long)]
    deny_warnings: bool,
}

impl Args {
    pub(crate) fn with_log(log: bool) -> Self {
        Self {
            log,
            deny_warnings: false,
        }
    }
}

/// Builds the object into `target/bpf`, which is left untouched if nothing
/// has changed, so that nothing that embeds it is built again.
pub(crate) fn execute(workspace: &Workspace, args: Args) -> Result<()> {
    let Args { log, deny_warnings } = args;
    let toolchain = setup::toolchain(workspace)?;
    let build = Build {
        checkout: workspace.root(),
        toolchain: &toolchain,
        target: &workspace.target().join("ebpf"),
        log,
    };
    let mut cargo = build.command();
    if deny_warnings {
        // Not through rustc's flags, which would build core again.
        cargo.args(["-Zwarnings", "--config", "build.warnings='deny'"]);
    }
    process::run(&mut cargo).with_context(|| {
        let Toolchain { compiler, linker } = &toolchain;
        format!(
            "cannot build the eBPF object with {} and {}",
            compiler.version,
            linker.path.display()
        )
    })?;
    publish(&build.built(), &workspace.ebpf_object(log))
}

/// Has cargo build observers with the object inside. Without this they have
/// none (`.cargo/config.toml`).
pub(crate) fn embed(workspace: &Workspace, log: bool, cargo: &mut Command) {
    cargo.env(OBJECT, workspace.ebpf_object(log));
}

fn publish(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let news = if is_same(object, &bytes)? {
        "unchanged"
    } else {
        replace(object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
        "new"
    };
    let kib = bytes.len().div_ceil(1024);
    say::good(
        "object",
        format_args!("{}, {kib} KiB, {news}", from_here(object).display()),
    );
    Ok(())
}

fn is_same(object: &Path, bytes: &[u8]) -> Result<bool> {
    match fs::read(object) {
        Ok(old) => Ok(old == bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", object.display())),
    }
}

/// Whoever reads it meanwhile sees the old object or the new one.
fn replace(object: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = PathBuf::from(format!("{}.new", object.display()));
    fs::write(&new, bytes)?;
    fs::rename(&new, object)
}
