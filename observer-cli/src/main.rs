//! The `observer` command: `run`, `check-config`, `status`, `top`, `doctor`,
//! `beat` and `audit`.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 clean,
//! 1 failure while running, 2 usage, 3 this host cannot attest.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::config::{Loaded, Refusal};
use self::failure::Usage;

mod address;
mod audit;
mod beat;
mod check_config;
mod choice;
mod config;
mod control;
mod daemon;
mod daemon_status;
mod describe;
mod doctor;
mod failure;
mod flags;
#[cfg(all(test, feature = "top"))]
mod flags_document;
mod ids;
mod incidents;
mod log;
mod metrics;
mod output;
mod plain;
mod priority;
mod run;
mod serve;
mod signals;
mod status;
mod stream;
mod table;
#[cfg(feature = "top")]
mod top;
mod trail;

/// Liveness observer: the kernel attests who sent each heartbeat
#[derive(Debug, Parser)]
#[command(name = "observer", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Observe agents: receive their beats, report stalls and forgeries
    #[command(after_help = flags::NOTES)]
    Run(Box<flags::Run>),
    /// Check a configuration file, and show what `observer run` would run with
    #[command(after_help = check_config::NOTES)]
    CheckConfig(check_config::CheckConfig),
    /// Show the status of a running observer
    Status(status::Status),
    /// Show a live view of a running observer: agents, incidents, losses
    #[cfg(feature = "top")]
    Top(top::Top),
    /// Check what this host allows, and what to do about what is missing
    Doctor(doctor::Doctor),
    /// Send beats, to try things out
    Beat(beat::Beat),
    /// Create keys for an audit trail; verify, sum up or follow a trail
    #[command(subcommand)]
    Audit(audit::Command),
}

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 failure while running, 2 usage, \
                          3 this host cannot attest.";

/// Runs the command that the arguments name. A usage error ends the process
/// with code 2 in here.
fn main() -> ExitCode {
    start(env::args_os().collect()).unwrap_or_else(|error| {
        plain::write_to_stderr(format_args!("error: {}", failure::explain(&error)));
        failure::exit_code(&error)
    })
}

fn start(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if config::is_run(&arguments) {
        // First of all: to read the configuration may take a while.
        signals::prepare().context("cannot set signals")?;
    }
    match config::load(&arguments) {
        Ok(loaded) => execute(loaded, arguments),
        Err(Refusal::Usage(error)) => error.exit(),
        Err(Refusal::Other(reason)) => Err(Usage(reason).into()),
    }
}

fn execute(loaded: Loaded, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Loaded { command, effective } = loaded;
    let done = match command {
        Command::Run(args) => run::execute(&args, effective, arguments),
        Command::CheckConfig(args) => check_config::execute(&args),
        Command::Status(args) => status::execute(&args),
        #[cfg(feature = "top")]
        Command::Top(args) => top::execute(&args),
        Command::Doctor(args) => return doctor::execute(&args),
        Command::Beat(args) => return beat::execute(&args),
        Command::Audit(command) => return audit::execute(&command),
    };
    done.map(|()| ExitCode::SUCCESS)
}
