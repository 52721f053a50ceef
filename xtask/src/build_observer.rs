//! `cargo xtask build`: the observer with its eBPF object inside.

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build_ebpf, process};

/// Builds both, for release.
pub(crate) fn build(workspace: &Workspace, log: bool) -> Result<()> {
    build_ebpf::execute(workspace, build_ebpf::Args::with_log(log))?;
    let mut cargo = process::cargo(workspace);
    cargo.args([
        "build",
        "--release",
        "--package",
        "observer-cli",
        "--bin",
        "observer",
    ]);
    if log {
        cargo.args(["--features", "ebpf-log"]);
    }
    build_ebpf::embed(workspace, log, &mut cargo);
    process::run(&mut cargo)
}
