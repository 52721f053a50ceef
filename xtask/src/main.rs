//! Builds, runs and tests the observer: `cargo xtask VERB`, one file a verb.
//!
//! Whatever these verbs put on disk is under `target/`, save for packages of
//! the distribution, which `setup` names before it installs them, and two files
//! that are in the library's folder while `package` runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod build_ebpf;
mod build_observer;
mod check;
mod demo;
mod linker;
mod package;
mod peer;
mod pip;
mod process;
mod programs;
mod python;
mod root;
mod run;
mod say;
mod setup;
mod stage;
mod test;
mod vm;
mod workspace;

use workspace::Workspace;

/// Builds, runs and tests the observer.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find what building and testing need, and install what is missing
    Setup,
    /// Build the observer with its eBPF object, target/release/observer
    Build,
    /// Build the eBPF object, target/bpf/observer-ebpf.o
    BuildEbpf(build_ebpf::Args),
    /// Check what the compiler does not: licences, the public API, imports, commits
    Check(check::Args),
    /// Build everything and start an observer
    Run(run::Args),
    /// Show honest agents, a forger and an agent that hangs in a few seconds
    Demo(demo::Args),
    /// Run all tests, those against the real kernel included
    Test(test::Args),
    /// Run the tests in virtual machines, on kernels of Debian's
    Vm(vm::Args),
    /// Run the benchmarks
    Bench(bench::Args),
    /// Package the library with its eBPF object, into target/package
    Package(package::Args),
}

fn main() -> ExitCode {
    match execute(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(verb: Verb) -> Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Setup => setup::execute(&workspace),
        Verb::Build => build_observer::build(&workspace, false),
        Verb::BuildEbpf(args) => build_ebpf::execute(&workspace, args),
        Verb::Check(args) => check::execute(&workspace, &args),
        Verb::Run(args) => run::execute(&workspace, &args),
        Verb::Demo(args) => demo::execute(&workspace, args),
        Verb::Test(args) => test::execute(&workspace, &args),
        Verb::Vm(args) => vm::execute(&workspace, &args),
        Verb::Bench(args) => bench::execute(&workspace, &args),
        Verb::Package(args) => package::execute(&workspace, &args),
    }
}
