//! `cargo xtask bench`: what a beat costs, what other packets pay, and what
//! the audit trail costs.

use std::ffi::OsString;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build_ebpf, process, root, say};

/// `cargo xtask bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to the benchmark of a beat in userspace: part of a name, or
    /// flags of criterion
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Builds and runs the benchmarks. Those of a beat in userspace and of the
/// audit trail need neither eBPF nor root; that of UDP needs both.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    let bench = |name: &str| {
        let mut cargo = process::cargo(workspace);
        cargo.args(["bench", "--package", "observer", "--bench", name, "--"]);
        cargo
    };
    process::run(bench("beat").args(&args.args))?;
    process::run(&mut bench("audit"))?;
    if !root::is_root() {
        say::bad("not run", "the benchmark of UDP needs root");
        return Ok(());
    }
    build_ebpf::execute(workspace, build_ebpf::Args::with_log(false))?;
    process::run(&mut bench("udp"))
}
