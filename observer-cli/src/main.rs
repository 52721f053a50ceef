//! The `observer` command: `run`, `status`, `top`, `doctor`, `beat` and `audit`.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 clean,
//! 1 failure while running, 2 usage, 3 this host cannot attest.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use observer::StartError;

use self::plain::PlainText;

mod advice;
mod args;
mod audit;
mod beat;
mod daemon;
mod daemon_status;
mod describe;
mod doctor;
mod log;
mod log_limit;
mod losses;
mod metrics;
mod notice_log;
mod output;
mod plain;
mod priority;
mod recorder;
mod run;
mod serve;
mod signals;
mod status;
mod stream;
mod table;
#[cfg(feature = "top")]
mod top;
mod udp;

/// Liveness observer: the kernel attests who sent each heartbeat
#[derive(Debug, Parser)]
#[command(name = "observer", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Observe the agents that beat at a socket
    #[command(after_help = args::RUN_NOTES)]
    Run(Box<args::Run>),
    /// Ask a running observer how it is
    Status(status::Status),
    /// Watch a running observer: agents, attacks, losses
    #[cfg(feature = "top")]
    Top(top::Top),
    /// Tell what this host allows, and what to do about what is missing
    Doctor(args::Doctor),
    /// Be an agent: send heartbeats, for trying things out
    Beat(args::Beat),
    /// Make keys for an audit trail; verify, sum up or follow one
    #[command(subcommand)]
    Audit(audit::Command),
}

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 failure while running, 2 usage, \
                          3 this host cannot attest.";
const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_ATTEST: u8 = 3;

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
        say(format_args!("error: {}", explain(&error)));
        exit_code(&error)
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

/// The error and its causes, each named once: some name their cause themselves;
/// then what can be done about it.
fn explain(error: &anyhow::Error) -> String {
    let start = error.downcast_ref::<StartError>();
    let advice = start.and_then(advice::for_error);
    let causes = error.chain().map(ToString::to_string);
    let text = causes.fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, &cause]);
        }
        text
    });
    match advice {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<StartError>() {
        Some(
            StartError::CannotAttest(_)
            | StartError::CannotAttestUdp(_)
            | StartError::CannotAttestListener(_)
            | StartError::TrustUnattested(_)
            | StartError::Attach(_)
            | StartError::UsersUnknown(_),
        ) => ExitCode::from(CANNOT_ATTEST),
        Some(
            StartError::NoConsent(_)
            | StartError::TooManyListeners(_)
            | StartError::TooManyDevices(_)
            | StartError::Device { .. }
            | StartError::OverSecurityModule(_),
        ) => ExitCode::from(USAGE),
        _ => ExitCode::from(FAILURE),
    }
}

/// A reader that has seen enough, as `head` has, is no failure.
fn until_read(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to stderr. There is nobody left to tell if that fails.
fn say(line: fmt::Arguments<'_>) {
    writeln!(PlainText(io::stderr()), "{line}").unwrap_or_default();
}
