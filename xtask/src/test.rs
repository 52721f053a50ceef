//! `cargo xtask test`: every test, and a loud word for each that did not run.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{build_ebpf, build_observer, process, programs, python, root, say};

/// The package whose tests need the real kernel, and root.
const END_TO_END: &str = "observer-tests";

/// What the end-to-end tests read from their environment, which sudo clears.
const PASSED_ON: [&str; 8] = [
    "CARGO_HOME",
    "CI",
    "OBSERVER_REQUIRE_KERNEL",
    "PATH",
    "RUSTUP_HOME",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "RUST_TEST_THREADS",
];

/// `cargo xtask test`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests against the real kernel, which need root and the
    /// BPF toolchain
    #[arg(long)]
    without_kernel: bool,

    /// Passed on to `cargo test`: part of a test's name, or flags
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Runs both suites, the second also if the first fails, then says how each
/// went.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    if !args.without_kernel {
        build_observer::build(workspace, false)?;
        programs::ensure(workspace)?;
        python::ensure(workspace)?;
    }
    let suites = [
        (
            "unit and doc tests",
            timed(&mut unit_tests(workspace, args)),
        ),
        (
            "end-to-end tests against this kernel",
            end_to_end(workspace, args),
        ),
    ];
    for (name, outcome) in &suites {
        outcome.report(name);
    }
    if suites.iter().any(|(_, outcome)| outcome.is_bad()) {
        bail!("not all tests ran and passed");
    }
    Ok(())
}

fn end_to_end(workspace: &Workspace, args: &Args) -> Outcome {
    if args.without_kernel {
        return Outcome::LeftOut;
    }
    if !root::is_within_reach() {
        return Outcome::NotRun;
    }
    timed(&mut end_to_end_tests(workspace, args))
}

fn unit_tests(workspace: &Workspace, args: &Args) -> Command {
    let mut cargo = process::cargo(workspace);
    cargo.args([
        "test",
        "--workspace",
        "--exclude",
        "observer-ebpf",
        "--exclude",
        END_TO_END,
    ]);
    cargo.args(&args.args);
    embed(workspace, args, &mut cargo);
    cargo
}

/// In both suites, lest the second builds anew what the first did.
fn embed(workspace: &Workspace, args: &Args, cargo: &mut Command) {
    if !args.without_kernel {
        build_ebpf::embed(workspace, false, cargo);
    }
}

/// Cargo itself runs as whoever we are, the tests as root.
fn end_to_end_tests(workspace: &Workspace, args: &Args) -> Command {
    let variables = [
        ("OBSERVER_BIN", workspace.observer().into_os_string()),
        (
            "VARTA_PYTHON_PATH",
            python::folder(workspace).into_os_string(),
        ),
        (
            "PROMETHEUS_PATH",
            programs::prometheus_folder(workspace).into_os_string(),
        ),
    ];
    let mut cargo = process::cargo(workspace);
    // One file's failure hides nothing of the others.
    cargo.args(["test", "--package", END_TO_END, "--no-fail-fast"]);
    if !root::is_root() {
        cargo.arg("--config").arg(sudo_runner(&variables));
    }
    cargo.args(&args.args).envs(variables);
    embed(workspace, args, &mut cargo);
    cargo
}

/// A setting for cargo: start test binaries through sudo, with what they need
/// of our environment.
fn sudo_runner(variables: &[(&str, OsString)]) -> String {
    let others = PASSED_ON
        .iter()
        .filter_map(|name| Some((*name, env::var_os(name)?)));
    let assignments = others
        .chain(variables.iter().cloned())
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()));
    let words = ["sudo", "--", "env"]
        .map(String::from)
        .into_iter()
        .chain(assignments);
    let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
    format!("target.'cfg(all())'.runner=[{}]", words.join(","))
}

fn timed(command: &mut Command) -> Outcome {
    let start = Instant::now();
    match process::run(command) {
        Ok(()) => Outcome::Passed(start.elapsed()),
        Err(error) => {
            say::error(&error);
            Outcome::Failed(start.elapsed())
        }
    }
}

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    /// As asked.
    LeftOut,
    NotRun,
}

impl Outcome {
    fn report(&self, suite: &str) {
        match self {
            Self::Passed(time) => say::good("passed", format_args!("{suite}, {time:.1?}")),
            Self::Failed(time) => say::bad("FAILED", format_args!("{suite}, {time:.1?}")),
            Self::LeftOut => say::bad("LEFT OUT", format_args!("{suite}, by --without-kernel")),
            Self::NotRun => say::bad(
                "NOT RUN",
                format_args!(
                    "{suite}: they need root, and there is no sudo; \
                     run as root, or leave them out with --without-kernel"
                ),
            ),
        }
    }

    fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::NotRun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_keeps_spaces_and_quotes() {
        let runner = sudo_runner(&[("OBSERVER_BIN", r#"/a "b" c"#.into())]);
        assert!(
            runner.starts_with(r#"target.'cfg(all())'.runner=["sudo","--","env","#),
            "{runner}"
        );
        assert!(
            runner.ends_with(r#""OBSERVER_BIN=/a \"b\" c"]"#),
            "{runner}"
        );
    }
}
