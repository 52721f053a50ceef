//! `cargo xtask check`: what neither the compiler nor clippy looks at.

use anyhow::{Result, bail};

use crate::say;
use crate::workspace::Workspace;

mod commits;
mod dependencies;
mod imports;

/// What a check has found, other than that something is wrong.
enum Outcome {
    Passed(String),
    /// It cannot be done here, and why.
    NotRun(String),
}

type Check = fn(&Workspace) -> Result<Outcome>;

const CHECKS: [(&str, Check); 3] = [
    ("imports", imports::check),
    ("commits", commits::check),
    ("dependencies", dependencies::check),
];

/// Runs all checks, and fails if one of them did.
pub(crate) fn execute(workspace: &Workspace) -> Result<()> {
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
