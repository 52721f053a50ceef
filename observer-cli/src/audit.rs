//! `observer audit`: keys for a trail; verifying, summing up, repairing and
//! following one.

mod follow;
mod keygen;
mod repair;
mod report;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// `observer audit`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create the keys of a new trail
    Keygen(keygen::Keygen),
    /// Check whether a trail is unchanged, and show where it was edited
    #[command(after_help = verify::NOTES)]
    Verify(verify::Verify),
    /// Sum up a trail by attacker and by victim
    Report(report::Report),
    /// Go on in a new file where a trail was moved, emptied or damaged, and keep
    /// what there is
    #[command(after_help = repair::NOTES)]
    Repair(repair::Repair),
    /// Show new lines as they are written, across rotations, and say what others
    /// do to the file
    Follow(follow::Follow),
}

pub(crate) fn execute(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Keygen(args) => keygen::execute(args).map(|()| ExitCode::SUCCESS),
        Command::Verify(args) => verify::execute(args),
        Command::Report(args) => report::execute(args).map(|()| ExitCode::SUCCESS),
        Command::Repair(args) => repair::execute(args).map(|()| ExitCode::SUCCESS),
        Command::Follow(args) => follow::execute(args).map(|()| ExitCode::SUCCESS),
    }
}
