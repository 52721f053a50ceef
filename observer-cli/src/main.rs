//! The `observer` command: `run`, `status`, `top`, `doctor`, `beat` and `audit`.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 clean,
//! 1 failure while running, 2 usage, 3 this host cannot attest.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

mod address;
mod audit;
mod beat;
mod choice;
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
    let result = match parse() {
        Command::Run(args) => run::execute(&args).map(|()| ExitCode::SUCCESS),
        Command::Status(args) => status::execute(&args).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "top")]
        Command::Top(args) => top::execute(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::execute(&args),
        Command::Beat(args) => beat::execute(&args),
        Command::Audit(command) => audit::execute(&command),
    };
    result.unwrap_or_else(|error| {
        plain::write_to_stderr(format_args!("error: {}", failure::explain(&error)));
        failure::exit_code(&error)
    })
}

fn parse() -> Command {
    let Cli { command } = Cli::parse();
    if let Command::Run(args) = &command
        && let Some(contradiction) = args.contradiction()
    {
        let mut usage = Cli::command();
        usage.build();
        let run = usage.find_subcommand_mut("run").cloned();
        run.unwrap_or(usage)
            .error(ErrorKind::ArgumentConflict, contradiction)
            .exit();
    }
    command
}
