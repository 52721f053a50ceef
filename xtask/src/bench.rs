//! `cargo xtask bench`: what a beat costs, what other packets pay, what the
//! audit trail costs; all of it beside the peer and a bare socket; and who is
//! heard while somebody floods.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::workspace::Workspace;
use crate::{build_ebpf, build_observer, peer, process, programs, root, say};

/// Makes the comparisons.
const PACKAGE: &str = "observer-bench";

/// Sets up their network namespace.
const NEEDED: [(&str, &str); 1] = [("ip", "iproute2")];

/// Counts system calls. Without it a column is empty.
const WANTED: [(&str, &str); 1] = [("perf", "linux-perf")];

/// `cargo xtask bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to run [default: all]
    #[arg(value_enum)]
    part: Option<Part>,

    /// Rounds of each comparison, of which the median is taken [default: 3;
    /// floods: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,

    /// How long each flood lasts, in seconds [default: 20]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,

    /// Compare also with this release binary of the observer, as of another tree
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Compare by these only: saturated, paced, idle, stalls [default: all]
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,

    /// Comparisons in one short round: whether they work, not what things cost
    #[arg(long)]
    quick: bool,

    /// Passed on to the benchmark of a beat in userspace: part of a name, or
    /// flags of criterion
    #[arg(last = true, value_name = "ARGS")]
    criterion: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Single steps: a beat in userspace, the audit trail, a large fleet, UDP
    Micro,
    /// The observer, varta-watch and a bare socket, side by side
    Compare,
    /// The same while somebody floods
    Flood,
}

/// Builds and runs the benchmarks. Those of a beat in userspace, of the audit
/// trail and of a large fleet need neither eBPF nor root; the others need both.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    let is_wanted = |part| args.part.is_none_or(|wanted| wanted == part);
    if is_wanted(Part::Micro) {
        micro(workspace, args)?;
    }
    if is_wanted(Part::Compare) {
        compare(workspace, args, "compare")?;
    }
    if is_wanted(Part::Flood) {
        compare(workspace, args, "flood")?;
    }
    Ok(())
}

fn micro(workspace: &Workspace, args: &Args) -> Result<()> {
    let bench = |package: &str, features: &[&str], name: &str| {
        let mut cargo = process::cargo(workspace);
        cargo.args(["bench", "--package", package]).args(features);
        cargo.args(["--bench", name, "--"]);
        cargo
    };
    // Some time the library's parts one by one.
    let parts = ["--features", "internals"];
    process::run(bench("observer", &parts, "beat").args(&args.criterion))?;
    process::run(&mut bench("observer-audit", &[], "audit"))?;
    process::run(&mut bench("observer", &parts, "fleet"))?;
    if !root::is_root() {
        say::bad("not run", "the benchmark of UDP needs root");
        return Ok(());
    }
    build_ebpf::execute(workspace, build_ebpf::Args::with_log(false))?;
    let mut udp = bench("observer", &parts, "udp");
    build_ebpf::embed(workspace, false, &mut udp);
    process::run(&mut udp)
}

/// Builds as whoever we are, and runs as root.
fn compare(workspace: &Workspace, args: &Args, verb: &str) -> Result<()> {
    if !root::is_within_reach() {
        bail!("the comparison needs root, and there is no sudo; `micro` alone does not");
    }
    programs::install(&NEEDED, "benchmarking")?;
    if let Err(error) = programs::install(&WANTED, "counting system calls") {
        say::bad("warning", format_args!("{error:#}"));
    }
    build_observer::build(workspace, false)?;
    peer::ensure(workspace)?;
    let mut cargo = process::cargo(workspace);
    cargo.args(["build", "--release", "--package", PACKAGE]);
    process::run(&mut cargo)?;
    process::run(&mut root::command(command(workspace, args, verb))?)
}

fn command(workspace: &Workspace, args: &Args, verb: &str) -> Command {
    let Args {
        part: _,
        rounds,
        seconds,
        baseline,
        topic,
        quick,
        criterion: _,
    } = args;
    let mut bench = Command::new(workspace.target().join("release").join(PACKAGE));
    bench
        .arg(verb)
        .arg("--observer")
        .arg(workspace.observer())
        .arg("--varta")
        .arg(peer::Build::Default.program(workspace))
        .arg("--varta-metrics")
        .arg(peer::Build::Metrics.program(workspace))
        .arg("--out")
        .arg(workspace.target().join("bench"));
    if let Some(rounds) = rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(seconds) = seconds {
        bench.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(baseline) = baseline {
        bench.arg("--baseline").arg(baseline);
    }
    for topic in topic {
        bench.args(["--topic", topic]);
    }
    if *quick {
        bench.arg("--quick");
    }
    bench
}
