//! `cargo xtask bench`: what a beat costs in userspace.

use std::ffi::OsString;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// `cargo xtask bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to the benchmark: part of a name, or flags of criterion
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds and runs the benchmarks. They need neither eBPF nor root.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    let mut cargo = process::cargo(workspace);
    cargo
        .args(["bench", "--package", "observer", "--bench", "beat", "--"])
        .args(&args.args);
    process::run(&mut cargo)
}
