//! Commands in pid namespaces of their own.

use std::ffi::OsStr;
use std::process::Command;

/// What starts a program as the first process of a new pid namespace, with
/// `/proc` to match.
const UNSHARE: [&str; 6] = [
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "--",
];

/// A program that will run as the first process of a new namespace.
#[must_use]
pub fn contained(program: impl AsRef<OsStr>) -> Command {
    let mut command = nested(1);
    command.arg(program);
    command
}

/// The beginning of a command that runs so many namespaces deeper.
#[must_use]
pub fn nested(depth: usize) -> Command {
    let mut command = Command::new("env");
    for _ in 0..depth {
        command.args(UNSHARE);
    }
    command
}
