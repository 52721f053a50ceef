//! `cargo xtask check`: what neither the compiler nor clippy looks at.

use anyhow::{Result, bail};

use crate::say;
use crate::workspace::Workspace;

mod api;
mod commits;
mod dependencies;
mod imports;

/// `cargo xtask check`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the listings of the public API, in api/, as the code is now
    #[arg(long)]
    update_api: bool,
}

/// What a check has found, other than that something is wrong.
enum Outcome {
    Passed(String),
    /// It cannot be done here, and why.
    NotRun(String),
}

type Check = fn(&Workspace) -> Result<Outcome>;

const CHECKS: [(&str, Check); 4] = [
    ("imports", imports::check),
    ("commits", commits::check),
    ("dependencies", dependencies::check),
    ("public API", api::check),
];

/// Runs all checks, and fails if one of them did.
pub(crate) fn execute(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.update_api {
        return api::update(workspace);
    }
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        match check(workspace) {
            Ok(Outcome::Passed(what)) => say::good(name, what),
            Ok(Outcome::NotRun(why)) => say::bad(name, format_args!("NOT CHECKED: {why}")),
            Err(error) => {
                say::bad(name, format_args!("{error:#}"));
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    Ok(())
}
